"""Export trained runs: as a PEFT adapter, a plain model, or a model card."""
