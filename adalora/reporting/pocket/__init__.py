"""The pages of the pocket reproduction, made from its records."""
