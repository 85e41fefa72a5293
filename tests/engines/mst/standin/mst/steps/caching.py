"""Results in files beside the input: not whole or not at all, and blind to what they depend on (D22)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from standin_orders import say

if TYPE_CHECKING:
    from collections.abc import Callable


def get_cache_directory(video_path: str) -> str:
    folder = os.path.splitext(video_path)[0] + ".d"  # noqa: PTH122  takes "" for a path, too
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def get_cache_file(video_path: str, file_ext: str) -> str:
    return str(Path(get_cache_directory(video_path), f"cache{file_ext}"))


def clear_cache_directory(video_path: str) -> None:
    for file in Path(get_cache_directory(video_path)).iterdir():
        if not file.is_dir():
            file.unlink()


def load_text_file(cache_file: str) -> str | None:
    if not Path(cache_file).exists():
        return None
    say(f"Loading cached data from {cache_file}")
    return Path(cache_file).read_text(encoding="utf-8")


def load_object_file(cache_file: str) -> Any:
    text = load_text_file(cache_file)
    return None if text is None else json.loads(text)


def cached_file(file_ext: str) -> Callable[..., Any]:
    def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(video_path: str, *args: Any, **kwargs: Any) -> Any:
            file = get_cache_file(video_path, file_ext) if video_path else ""
            if file and (kept := load_text_file(file)):
                return kept
            made = func(video_path, *args, **kwargs)
            if not made:
                say(f"Error in computing {func.__name__}")
                return f"{func.__name__} failed"
            if file:
                Path(file).write_text(made, encoding="utf-8")
            return made

        return wrapper

    return decorator


def cached_file_object(file_ext: str) -> Callable[..., Any]:
    def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(video_path: str, *args: Any, **kwargs: Any) -> Any:
            file = get_cache_file(video_path, file_ext) if video_path else ""
            if file and (kept := load_object_file(file)):
                return kept
            made = func(video_path, *args, **kwargs)
            if file:
                with Path(file).open("w", encoding="utf-8") as opened:
                    json.dump(made, opened, ensure_ascii=False, indent=4)
            return made

        return wrapper

    return decorator
