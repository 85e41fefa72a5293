"""Topic segmentation, as topic-treeseg offers it."""

from .embeddings import Embeddings as Embeddings
from .ollama import ollama_embeddings as ollama_embeddings
from .openai import openai_embeddings as openai_embeddings
from .treeseg import TreeSeg as TreeSeg
