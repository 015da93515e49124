"""Commands for people who work on berth: measuring the engine, writing reference pages, the demo."""
