"""The console: pages for operators, in HTML."""

from triggers.console import authorities, devices, orders, rejections, sign_in, today

__all__ = ["authorities", "devices", "orders", "rejections", "sign_in", "today"]
