"""Where the files are that the tests here give to their tools."""

from tests.support.container import ROOT

DEPLOY = ROOT / "deploy"
