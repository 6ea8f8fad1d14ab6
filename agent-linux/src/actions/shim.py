"""Runs a Keylime action: execute(json_revocation), async or not, of the module argv[1], with the message in the file argv[2].

Exit code 0 if it returned. Anything else, an exception or a module without execute, is a traceback and exit code 1.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import sys

action, message = sys.argv[1:]
# As if it had been started itself: its own arguments, and the modules beside it after those of the system.
sys.argv = [action, message]
sys.path.append(os.path.dirname(action))
with open(message, encoding="utf-8") as file:
    revocation = json.load(file)

spec = importlib.util.spec_from_file_location("revocation_action", action)
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)


async def finish(result):
    await result


result = module.execute(revocation)
if inspect.isawaitable(result):
    asyncio.run(finish(result))
