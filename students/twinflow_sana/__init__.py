"""The family TwinFlow on SANA: SANA-Sprint's networks with a second time embedder, and TwinFlow's sampler."""
