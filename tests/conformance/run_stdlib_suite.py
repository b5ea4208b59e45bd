"""Runs the interpreter's own tests of socketserver, on the module named, and writes what came of each test as JSON:

python run_stdlib_suite.py socketserver|prefork.socketserver RESULT_FILE
"""

import importlib
import json
import sys
import unittest

import test.support  # type: ignore[import-not-found]  # not part of the stubs


def install(name: str) -> None:
    """Put the module in the standard one's place, under its name."""
    module = importlib.import_module(name)
    sys.modules["socketserver"] = module
    for value in vars(module).values():
        # The suite finds what a module defines by the name its classes give.
        if isinstance(value, type) and value.__module__.startswith("prefork."):
            value.__module__ = "socketserver"


def run() -> dict[str, dict[str, str]]:
    test.support.use_resources = ["network"]  # as `regrtest -u network` does
    test.support.verbose = 0
    suite = unittest.defaultTestLoader.loadTestsFromName("test.test_socketserver")
    names = {case.id(): "" for case in cases(suite)}
    result = unittest.TestResult()
    suite.run(result)
    return {
        "tests": names,
        "failed": {case.id(): text for case, text in result.failures + result.errors},
        "skipped": {case.id(): reason for case, reason in result.skipped},
    }


def cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for item in suite:
        found += cases(item) if isinstance(item, unittest.TestSuite) else [item]
    return found


if __name__ == "__main__":
    install(sys.argv[1])
    outcome = run()
    with open(sys.argv[2], "w") as file:
        json.dump(outcome, file)
