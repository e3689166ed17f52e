"""Contracts between the parts of Mien: names, shapes and messages. No torch, no FastAPI, no logic of any one service."""
