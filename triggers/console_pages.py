"""The console: pages for operators, in HTML."""

from triggers.console import acts, authorities, devices, orders, rejections, requests, sign_in, today

__all__ = ["acts", "authorities", "devices", "orders", "rejections", "requests", "sign_in", "today"]
