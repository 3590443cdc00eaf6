"""The chapters of the report; each file declares one as ``CHAPTER`` and is found by that."""
