"""What the language model has to answer."""

from pydantic import BaseModel


class NounList(BaseModel):
    nouns: list[str]
