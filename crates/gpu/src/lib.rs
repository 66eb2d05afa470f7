//! Device, limits, buffers, pipelines, command recording, readback and timing. Knows no word of machine learning.
