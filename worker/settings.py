"""Every setting of every process, in one frozen class, read from the environment or a ``.env`` file.

Nothing reads the environment but ``Settings()``, which only entry points call. ``.env.example`` and
``docs/settings.md`` name every field here and no other (a test compares them).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.delivery.bucket import checked_s3_path
from worker.delivery.signing import signing_keys
from worker.errors import BadRequest
from worker.sources.addresses import AddressPolicy, address_policy

MIB = 1024**2
GIB = 1024**3
_ORIGIN = re.compile(r"https?://[^/\s,*]+")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    # A SecretStr: the URL may carry a password, and pydantic's own RedisDsn prints it.
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey server (6.2 or newer, AOF on)."
    )
    cache_dir: Path = Field(Path("var/cache"), description="Folder shared by gateway, workers and sweeper.")
    cache_expiry: int = Field(
        7 * 24 * 3600, ge=60, le=366 * 24 * 3600, description="Seconds from a job's end to its removal."
    )
    orphan_grace_s: int = Field(
        3600,
        ge=1,
        description="Age at which a job folder without a job record is taken for a crash's remains.",
    )
    max_upload_bytes: int = Field(4 * GIB, ge=1, description="Largest recording accepted, in bytes.")
    min_free_bytes: int = Field(
        GIB, ge=0, description="Free space that uploads must leave on the cache's disk."
    )
    max_waiting_jobs: int = Field(100_000, ge=1, description="Queue length at which new jobs get 503.")
    max_waiting_per_key: int = Field(
        0, ge=0, description="Waiting jobs of one API key at which it gets 429 for new ones; 0: no limit."
    )
    max_stored_bytes_per_key: int = Field(
        0, ge=0, description="Bytes that one API key's jobs may hold in the cache, or 429; 0: no limit."
    )

    max_duration_s: float = Field(
        86_400, ge=1, le=2_678_400, description="Longest recording transcribed, in seconds of its sound."
    )

    url_connect_s: float = Field(
        10, gt=0, le=600, description="Seconds a URL's server may take to be resolved and to connect, each."
    )
    url_idle_s: float = Field(
        30, gt=0, le=3600, description="Seconds a URL's server may send nothing for, in an answer."
    )
    url_total_s: float = Field(
        3600, gt=0, le=86_400, description="Seconds an attempt may take to fetch a recording from its URL."
    )
    url_tries: int = Field(
        5, ge=1, le=100, description="Tries in a row, within an attempt, that may bring next to nothing."
    )

    lease_s: float = Field(
        15, ge=2, le=600, description="Seconds without renewal after which a worker has lost its job."
    )
    sweep_s: float = Field(5, ge=0.5, le=300, description="Seconds between two sweeps for expired leases.")
    repair_s: float = Field(30, ge=0.5, le=3600, description="Seconds between two repairs of jobs and files.")
    stall_s: float = Field(
        1800, ge=10, le=86_400, description="Seconds without progress after which an attempt is killed."
    )
    drain_s: float = Field(
        300, ge=0, le=86_400, description="Seconds a stopping worker gives its running job to finish."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts that may die before a job has failed.")

    time_limit_x: float = Field(
        20, ge=1, le=10_000, description="Longest run of an attempt's engine, in lengths of its recording."
    )
    time_limit_min_s: float = Field(
        1800, ge=1, le=604_800, description="Seconds an attempt's engine may run however short the recording."
    )

    engine: Literal["auto", "mst", "whisper", "simulated"] = Field(
        "auto",
        description="What turns audio into a transcript; auto: mst where it is installed and configured, "
        "else whisper.",
    )
    engines_allowed: str = Field(
        "", description="Engines that a job may ask for besides ENGINE, parted by commas."
    )
    whisper_model: str = Field(
        "",
        description="Whisper model: a CTranslate2 folder or a name on the hub; empty: tiny.en from a wheel.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the engine computes.")
    on_gpu_oom: Literal["retry", "cpu", "fail"] = Field(
        "retry",
        description="When the GPU's memory is full with smaller batches, too: try again later, go on on the "
        "CPU, or fail.",
    )
    hf_token: SecretStr | None = Field(
        None, description="Hugging Face token, for models behind terms of use (mst's diarization)."
    )
    mst_stock: bool = Field(
        False, description="The engine mst's text as the package alone gives it, faults of its text included."
    )
    sentence_model: str = Field("en_core_web_sm", description="Engine mst: spaCy model that parts sentences.")
    entity_model: str = Field(
        "urchade/gliner_medium-v2.1", description="Engine mst: GLiNER model that finds names, places, dates."
    )
    entity_threshold: float = Field(
        0.65, gt=0, lt=1, description="Engine mst: how sure ENTITY_MODEL must be of a find."
    )
    correction_model: str = Field(
        "paraphrase-MiniLM-L6-v2",
        description="Engine mst: SentenceTransformer that misspelt names and topics are found by.",
    )
    diarization_model: str = Field(
        "pyannote/speaker-diarization-3.1",
        description="Engine mst: pyannote pipeline that tells speakers apart; none: leave it out.",
    )
    introduction_model: str = Field(
        "gerald29/setfit-bge-small-v1.5-sst2-8-shot-introduction",
        description="Engine mst: SetFit model that knows an introduction (it runs code from its folder).",
    )
    min_topic_sentences: int = Field(
        10, ge=1, le=1000, description="Engine mst: shortest topic, in sentences."
    )
    llm_provider: Literal["", "ollama", "openai", "none"] = Field(
        "",
        description="Whose protocol the language model speaks; empty: ollama where OLLAMA_HOST is set, else "
        "openai where OPENAI_BASE_URL is, else none.",
    )
    ollama_host: str = Field("", repr=False, description="Ollama's address, such as http://127.0.0.1:11434.")
    openai_base_url: str = Field(
        "", repr=False, description="Address of an OpenAI-compatible server, /v1 included."
    )
    openai_api_key: SecretStr | None = Field(None, description="Key for OPENAI_BASE_URL, where it wants one.")
    topic_model: str = Field("glm-4.7-flash", description="Language model for headlines and summaries.")
    similar_names_model: str = Field(
        "glm-4.7-flash", description="Language model that unites spellings of names."
    )
    embedding_model: str = Field(
        "",
        description="Embedding model of the language model's server, for topics; empty: CORRECTION_MODEL, in "
        "the worker.",
    )
    llm_timeout_s: float = Field(
        60, gt=0, le=3600, description="Seconds that one call of the language model may take."
    )
    llm_retries: int = Field(
        1, ge=0, le=10, description="Tries after a first failed call of the language model."
    )
    llm_required: bool = Field(
        False,
        description="Take no jobs while the language model's server is away, instead of giving partial "
        "results.",
    )

    jobs_per_gpu: int = Field(
        1, ge=1, le=8, description="Workers on each GPU, each with a model of its own in the GPU's memory."
    )
    gpu_need_mib: int = Field(
        0, ge=0, description="MiB that a GPU must have free before the engine is loaded; 0: by the engine."
    )
    gpu_max_temperature_c: int = Field(
        90, ge=30, le=150, description="Degrees Celsius from which on a GPU is given no new job."
    )
    gpu_max_utilisation: int = Field(
        100, ge=1, le=100, description="Percent of use from which on a GPU is given no job; 100: no limit."
    )
    idle_unload_s: float = Field(
        900, ge=0, le=604_800, description="Seconds without work after which memory is given back; 0: never."
    )
    recycle_after_jobs: int = Field(
        0, ge=0, description="Jobs after which a worker's child is replaced; 0: never."
    )
    recycle_above_mib: int = Field(
        0, ge=0, description="MiB of memory (not the GPU's) above which it is replaced; 0: never."
    )
    simulated_script: str = Field(
        "", description="How the simulated engine behaves (docs/engines.md); for load and failure tests only."
    )

    s3_storage_bucket: str = Field(
        "",
        pattern="^[^/]*$",
        description="Bucket for results of jobs with s3_path; empty: such jobs are refused.",
    )
    s3_endpoint_url: str = Field(
        "",
        pattern="^(https?://.*)?$",
        description="S3 server that is not AWS, such as https://minio.example.",
    )
    aws_region: str = Field("us-east-1", description="Region of the bucket.")
    aws_access_key_id: str = Field("", description="Access key that may put objects into the bucket.")
    aws_secret_access_key: SecretStr | None = Field(None, description="Its secret.")
    s3_prefix: str = Field(
        "", description="What every object's key begins with, without outer slashes; empty: nothing."
    )

    webhook_secret: SecretStr | None = Field(
        None,
        description="What webhooks are signed with: whsec_ and base64 of 24 to 64 bytes; two parted by a "
        "blank while it changes; empty: jobs with webhook_url are refused.",
    )
    webhook_timeout_s: float = Field(
        10, ge=0.1, le=120, description="Seconds in which a webhook's receiver must have answered."
    )
    url_allow_hosts: str = Field(
        "",
        description="Hosts, .suffixes and networks that URLs may lead to although they are not public, "
        "parted by commas.",
    )
    url_allow_private: bool = Field(
        False, description="Whether URLs may lead to any private address, this machine's included."
    )

    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(8000, ge=0, le=65535, description="Port the gateway listens on.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Who may use the API, parted by commas: name:sha256 or name:sha256:operator "
        "(docs/security.md).",
    )
    api_keys_file: str = Field("", description="A file with more of them, one a line; # begins a comment.")
    allow_anonymous: bool = Field(
        False, description="Without API keys, listen on other addresses than loopback, too."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may call the API from a browser, parted by commas; * for all."
    )
    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern="^(https?://.*)?$",
        description="OpenTelemetry collector that traces go to by OTLP over HTTP, such as "
        "http://collector:4318; empty: none are made.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address the metrics exporter listens on.")
    metrics_port: int = Field(9109, ge=0, le=65535, description="Port of the metrics exporter.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower in the local stack.")
    data_dir: Path = Field(
        Path("var"), description="Where the local stack keeps its Redis data and logs; nothing else uses it."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or text.")

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must start with redis:// or rediss://")
        return url

    @field_validator("engines_allowed")
    @classmethod
    def _are_engines(cls, text: str) -> str:
        unknown = set(_listed(text)) - {"mst", "whisper", "simulated"}
        if unknown:
            raise ValueError(f"knows no engine {', '.join(sorted(unknown))}: use mst, whisper, simulated")
        return text

    @field_validator("s3_prefix")
    @classmethod
    def _is_a_prefix(cls, text: str) -> str:
        try:
            return checked_s3_path(text, "the prefix") if text else text
        except BadRequest as exc:
            raise ValueError(exc.message) from None

    @field_validator("webhook_secret")
    @classmethod
    def _holds_keys(cls, secret: SecretStr | None) -> SecretStr | None:
        signing_keys(secret)
        return secret

    @field_validator("url_allow_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        address_policy(text, allow_private=False)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in _listed(text):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: use scheme://host or scheme://host:port")
        return text

    @property
    def url_policy(self) -> AddressPolicy:
        """Where URLs may lead."""
        return address_policy(self.url_allow_hosts, allow_private=self.url_allow_private)

    @property
    def allowed_origins(self) -> list[str]:
        return _listed(self.cors_origins)

    @property
    def job_engines(self) -> list[str]:
        """The engines that a job may ask for by name."""
        own = {"mst", "whisper"} if self.engine == "auto" else {self.engine}
        return sorted(own | set(_listed(self.engines_allowed)))

    def time_limit_s(self, duration_s: float) -> float:
        """Seconds that an engine may take for a recording of this length."""
        return max(self.time_limit_min_s, self.time_limit_x * duration_s)

    @model_validator(mode="after")
    def _a_language_model_is_no_stall(self) -> Settings:
        has_one = self.ollama_host or self.openai_base_url
        longest_s = self.llm_timeout_s * (self.llm_retries + 1)
        if has_one and longest_s > self.stall_s / 2:
            raise ValueError(
                f"LLM_TIMEOUT_S times all tries ({longest_s:g}) must be at most half of STALL_S "
                f"({self.stall_s:g})"
            )
        return self

    @model_validator(mode="after")
    def _sweeps_are_faster_than_leases(self) -> Settings:
        # The sweep's outage guard takes a pause of half a lease between sweeps for an outage.
        if self.sweep_s > self.lease_s / 3:
            raise ValueError(
                f"SWEEP_S ({self.sweep_s:g}) must be at most a third of LEASE_S ({self.lease_s:g})"
            )
        return self


def _listed(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def load_settings() -> Settings:
    """The process's settings; on a bad one, end the process with a line for each that names it.

    For entry points only.
    """
    try:
        return Settings()
    except ValidationError as exc:
        for error in exc.errors():
            # Without the value, which may be a secret.
            name = "_".join(str(part) for part in error["loc"]).upper() or "settings"
            sys.stderr.write(f"{name}: {error['msg'].removeprefix('Value error, ')}\n")
        raise SystemExit(2) from None
