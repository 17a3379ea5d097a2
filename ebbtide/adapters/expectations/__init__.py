"""Suites of expectations for data and features, checked by Great Expectations."""
