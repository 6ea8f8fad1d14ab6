"""Keylime's example policy over event logs: one verdict a line, for each case of the file that is named."""

import json
import logging
import sys

logging.disable(logging.CRITICAL)

# pylint: disable=wrong-import-position
from keylime.mba import mba
from keylime.mba.elchecking import policies
from keylime.mba.elparsing import tpm2_tools_elparser

mba.load_imports(skip_custom_policies=True)
policy = policies.get_policy("example")
with open(sys.argv[1], encoding="utf-8") as file:
    cases = json.load(file)
for case in cases:
    failure, log = tpm2_tools_elparser.parse_binary_bootlog(bytes(case["log"]))
    if failure or not log:
        print("no log")
        continue
    try:
        why = policy.evaluate(case["refstate"], log)
    except Exception as error:  # pylint: disable=broad-except
        why = f"no policy: {error}"
    print("refused " + " ".join(why.split())[:300] if why else "passed")
