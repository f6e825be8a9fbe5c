"""The pages of the pocket reproduction, made of its records alone."""
