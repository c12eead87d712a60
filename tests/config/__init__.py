"""Tests of stompauth.config."""
