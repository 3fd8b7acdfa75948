"""Presets for the bandit, made from searches: settings that stand on a plateau, and no two of one kind."""
