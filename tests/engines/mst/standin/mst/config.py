"""The configuration, with the original's names and defaults."""

from __future__ import annotations

import os

from pydantic import BaseModel, Field

_LLM = "glm-4.7-flash"


class LLMConfig(BaseModel):
    provider: str = "openai"
    openai_base_url: str = "http://glm-flash.cluster:9999/v1"
    openai_api_key: str = "not-needed"


class TranscriptionConfig(BaseModel):
    whisper_model: str = "distil-large-v3"


class MergeSentencesConfig(BaseModel):
    spacy_model: str = "en_core_web_sm"


class EntityConfig(BaseModel):
    gliner_model: str = "urchade/gliner_medium-v2.1"
    entity_threshold: float = 0.65
    similar_names_model: str = _LLM


class StandardizeConfig(BaseModel):
    sentence_transformer_model: str = "paraphrase-MiniLM-L6-v2"
    similarity_threshold: float = 0.85


class DiarizationConfig(BaseModel):
    diarization_model: str = "pyannote/speaker-diarization-3.1"
    hf_token: str | None = None


class IntroductionsConfig(BaseModel):
    setfit_model: str = "gerald29/setfit-bge-small-v1.5-sst2-8-shot-introduction"
    speaker_map_margin: float = 1.0
    entity_map_margin: float = 0.5


class TopicConfig(BaseModel):
    topic_model: str = _LLM
    headline_prompt: str = "Write a headline for this section of a town meeting."
    summary_prompt: str = "Write a summary of this section of a town meeting."


class TranscriberConfig(BaseModel):
    llm: LLMConfig = Field(default_factory=LLMConfig)
    transcription: TranscriptionConfig = Field(default_factory=TranscriptionConfig)
    merge_sentences: MergeSentencesConfig = Field(default_factory=MergeSentencesConfig)
    entities: EntityConfig = Field(default_factory=EntityConfig)
    standardize: StandardizeConfig = Field(default_factory=StandardizeConfig)
    diarization: DiarizationConfig = Field(default_factory=DiarizationConfig)
    introductions: IntroductionsConfig = Field(default_factory=IntroductionsConfig)
    topic: TopicConfig = Field(default_factory=TopicConfig)

    @classmethod
    def from_env(cls) -> TranscriberConfig:
        llm = {
            "provider": os.getenv("LLM_PROVIDER"),
            "openai_base_url": os.getenv("OPENAI_BASE_URL"),
            "openai_api_key": os.getenv("OPENAI_API_KEY"),
        }
        return cls(
            llm=LLMConfig(**{key: value for key, value in llm.items() if value is not None}),
            diarization=DiarizationConfig(hf_token=os.getenv("HF_TOKEN")),
            entities=EntityConfig(similar_names_model=os.getenv("SIMILAR_NAMES_MODEL", _LLM)),
            topic=TopicConfig(topic_model=os.getenv("TOPIC_MODEL", _LLM)),
        )
