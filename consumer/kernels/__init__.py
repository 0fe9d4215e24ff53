"""Compiled passes over the bytes of many messages at once, each the fast way of what plain code defines."""
