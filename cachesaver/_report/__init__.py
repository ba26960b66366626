"""A cache file as one HTML page, with figures by matplotlib: what was saved, and what is in there."""

try:
    from ._page import report as report
except ModuleNotFoundError as error:
    raise ImportError(f"{error}. The report needs: pip install 'cachesaver[report]'") from error
