"""What comes in and goes out: requests, rejections, events, readiness."""
