//! GGUF files against the Python package `gguf`.
