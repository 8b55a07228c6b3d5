"""Texts from language models behind any OpenAI-compatible server: prompts, questions, answers, and their checks."""
