"""Splits a transcript where its embeddings change most, with the original's errors (D17, D18)."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

import numpy as np
import structlog
from standin_orders import asked, say

logger = structlog.get_logger()
_BATCH = 500


class SegNode:
    """Entries in one stretch. It has no order, so a heap of equal losses can't be kept (D18)."""

    def __init__(self, identifier: str, entries: list[dict[str, Any]], configs: dict[str, Any]) -> None:
        self.identifier, self.entries, self.configs = identifier, entries, configs
        self.segment = [entry["index"] for entry in entries]
        self.embs = np.array([entry["embedding"] for entry in entries], float)
        self.left: SegNode | None = None
        self.right: SegNode | None = None
        self.is_leaf = len(entries) < 2 * configs["MIN_SEGMENT_SIZE"]
        if not self.is_leaf:
            self.compute_likelihood()
            self.optimize_split()

    def squared_error(self, X: Any, mu: Any) -> Any:  # noqa: N803  treeseg's name
        return ((X - mu) ** 2).sum()

    def compute_likelihood(self) -> None:
        balance = self.configs["LAMBDA_BALANCE"] * len(self.entries) ** 2
        self.negative_log_likelihood = self.squared_error(self.embs, self.embs.mean(0)) + balance

    def optimize_split(self) -> None:
        least, size = self.configs["MIN_SEGMENT_SIZE"], len(self.entries)
        cut, loss = min(
            ((cut, self._loss(cut)) for cut in range(least, size - least + 1)), key=lambda pair: pair[1]
        )
        self.split_negative_log_likelihood = loss
        self.split_entries = [self.entries[:cut], self.entries[cut:]]

    def split_loss_delta(self) -> Any:
        return self.split_negative_log_likelihood - self.negative_log_likelihood

    def split(self) -> tuple[SegNode, SegNode]:
        first, second = self.split_entries
        self.left = SegNode(self.identifier + "L", first, self.configs)
        self.right = SegNode(self.identifier + "R", second, self.configs)
        return self.left, self.right

    def _loss(self, cut: int) -> float:
        return sum(
            float(self.squared_error(part, part.mean(0))) + self.configs["LAMBDA_BALANCE"] * len(part) ** 2
            for part in (self.embs[:cut], self.embs[cut:])
        )


class TreeSeg:
    def __init__(self, configs: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        asked("treeseg", entries=len(entries))
        self.configs, self.entries = configs, entries
        self.extract_blocks()
        for retry in range(6):
            try:
                self.embed_blocks()
            except Exception as exc:  # noqa: BLE001  the defect D17: nothing tells the caller
                logger.warning("Embedding failed (%s): Retrying (%s)", exc, retry)
            else:
                return

    def extract_blocks(self) -> None:
        width, key = self.configs["UTTERANCE_EXPANSION_WIDTH"], self.configs.get("TEXT_KEY", "composite")
        texts = [entry.get(key, "") for entry in self.entries]
        self.blocks: list[dict[str, Any]] = [
            {"convo": "\n".join(texts[max(0, at - width) : at + 1]), **entry, "index": at}
            for at, entry in enumerate(self.entries)
        ]

    async def get_embeddings(self, chunks: list[str]) -> Any:
        embeddings = self.configs["EMBEDDINGS"]
        return await embeddings.embeddings_func(embeddings, chunks)

    def embed_blocks(self) -> None:
        loop = asyncio.get_event_loop()
        texts = [block["convo"] for block in self.blocks]
        batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]

        async def all_batches() -> Any:
            return await asyncio.gather(*(self.get_embeddings(batch) for batch in batches))

        waiting = all_batches()
        try:
            vectors = [vector for batch in loop.run_until_complete(waiting) for vector in batch]
        finally:
            waiting.close()
        for block, vector in zip(self.blocks, vectors, strict=False):
            block["embedding"] = vector

    def segment_meeting(self, K: Any) -> list[int] | None:  # noqa: N803  treeseg's name
        """A 1 where a topic begins, but for the first; None for fewer than two smallest topics."""
        root = SegNode("*", self.blocks, self.configs)
        if root.is_leaf:
            logger.info("Cannot split root further. Nothing to do here.")
            return None
        self.leaves = self._grown(root, K)
        starts = {leaf.segment[0] for leaf in self.leaves[1:]}
        return [int(at in starts) for at in range(len(self.blocks))]

    def _grown(self, root: SegNode, most: Any) -> list[SegNode]:
        leaves: list[tuple[int, SegNode]] = []
        open_: list[tuple[Any, SegNode]] = [(root.split_loss_delta(), root)]
        while open_ and len(open_) + len(leaves) != most:
            _, node = heapq.heappop(open_)
            for part in node.split():
                say(f"{part.identifier} {part.segment}")
                if part.is_leaf:
                    heapq.heappush(leaves, (part.segment[0], part))
                else:
                    heapq.heappush(open_, (part.split_loss_delta(), part))
        while open_:
            _, node = heapq.heappop(open_)
            heapq.heappush(leaves, (node.segment[0], node))
        return [leaf for _, leaf in sorted(leaves, key=lambda pair: pair[0])]
