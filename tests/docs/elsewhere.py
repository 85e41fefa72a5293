"""The commands and snippets of the pages that tests/docs does not run itself, and what runs them instead.

The key is the command as the page has it, or a page and the first line of its snippet. The value names a
test (``tests/...::test_name``, or a module of tests), a line of .ci/run, or why nothing can run it.
"""

from __future__ import annotations

CLIENT_PAGE = "tests/client/test_client_docs.py"
COMPOSE = "tests/compose/test_compose_stack.py"
BACKUP = f"{COMPOSE}::test_a_backup_is_restored"  # it takes these commands from the page
COPY = (
    "for volume in redis cache; do docker run --rm --user 0 --entrypoint tar "
    '-v transcription_$volume:/volume -v "$PWD":/backup \\\n'
    "    transcription-gateway {} /backup/$volume.tar -C /volume{}; done"
)
NEEDS_A_DISK = "because: it needs another disk, and root to mount it"
NEEDS_A_GPU = "because: it needs an NVIDIA GPU, and models from a hub"

COMMANDS = {
    "make demo    # sets all up, starts the service, transcribes a sample, prints the transcript, stops": (
        ".ci/run: make demo"
    ),
    "make test    # runs all tests": ".ci/run: make test",
    "make run": "tests/docs/test_local_stack.py::test_run_keeps_the_service_up_until_it_is_stopped",
    "make lint": ".ci/run: make lint",
    'make test ARGS="tests/jobs -q"': ".ci/run: make test",
    "python -m loadtest.chaos --jobs 1000 --faults 200 --seconds 480": ".ci/run: make chaos",
    "make test-mst MST_PYTHON=/path/to/venv/bin/python": (
        "because: it needs a Python of its own with the package multistep-transcriber, from its repository"
    ),
    "docker compose -f compose.cpu.yaml up -d --build --wait": COMPOSE,
    "docker compose stop": BACKUP,
    "docker compose up -d --wait": BACKUP,
    "docker compose create": BACKUP,
    COPY.format("cf", " ."): BACKUP,
    COPY.format("xf", ""): BACKUP,
    "docker compose stop gateway worker sweeper": NEEDS_A_DISK,
    "mkdir -p /mnt/big/cache": NEEDS_A_DISK,
    (
        "docker run --rm --user 0 --entrypoint cp -v transcription_cache:/from:ro -v /mnt/big/cache:/to "
        "transcription-gateway -a /from/. /to"
    ): NEEDS_A_DISK,
    "export COMPOSE_FILE=compose.cpu.yaml:bigger.yaml": NEEDS_A_DISK,
    (
        'docker run -d --name transcription-worker --hostname "$(hostname)" --restart unless-stopped --init '
        "--gpus all --stop-timeout 330 \\\n"
        "    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --shm-size 1g "
        "--env-file .env \\\n"
        '    -e REDIS_URL="redis://service:$REDIS_PASSWORD@10.9.0.1:6379/0" -e CACHE_DIR=/cache '
        "-e API_KEYS= -e WEBHOOK_SECRET= \\\n"
        "    -v /mnt/cache:/cache -v models:/models transcription-worker:gpu"
    ): NEEDS_A_GPU,
    "docker compose -f compose.gpu.yaml build": NEEDS_A_GPU,
    "docker compose -f compose.gpu.yaml run --rm worker prefetch": NEEDS_A_GPU,
    "docker compose -f compose.gpu.yaml run --rm worker doctor": NEEDS_A_GPU,
    "docker compose -f compose.gpu.yaml up -d --wait": NEEDS_A_GPU,
}

PAGES = {"docs/client.md": CLIENT_PAGE}
