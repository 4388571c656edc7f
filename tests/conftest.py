"""Order of the test run."""

LONGEST = ("test_verilog.py", "test_personalize_rtl.py")
"""Files of several minutes, begun first, so that no worker waits at the end."""


def pytest_collection_modifyitems(items):
    def rank(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=rank)
