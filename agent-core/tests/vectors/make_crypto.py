"""Prints vectors of an implementation that isn't ours: make_crypto.py seal | auth_tag."""
import hashlib
import hmac
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def stream(label, length):
    """Bytes that look random and are the same at every run."""
    return hashlib.shake_128(label.encode()).digest(length)


def show(data):
    return data.hex() or "-"


def seal():
    for key_bytes in (16, 32):
        for length in (0, 1, 15, 16, 17, 31, 32, 64, 100, 255, 1000):
            key = stream(f"key {key_bytes} {length}", key_bytes)
            nonce = stream(f"nonce {key_bytes} {length}", 16)
            plain = stream(f"plain {key_bytes} {length}", length)
            box = AESGCM(key).encrypt(nonce, plain, None)
            print("opens", show(key), show(nonce + box), show(plain))
            if length in (0, 17, 100):
                print("tag", show(stream("another key", key_bytes)), show(nonce + box), "-")
                print("tag", show(key), show(nonce + box[:-1] + bytes([box[-1] ^ 1])), "-")
                print("tag", show(key), show(nonce[:-1] + bytes([nonce[-1] ^ 0x80]) + box), "-")
                with_data = AESGCM(key).encrypt(nonce, plain, b"associated")
                print("tag", show(key), show(nonce + with_data), "-")
    # A 96-bit nonce, then the same as a 128-bit one with zeros: GCM treats them differently.
    key, nonce = stream("key 96", 32), stream("nonce 96", 12)
    print("tag", show(key), show(nonce + bytes(4) + AESGCM(key).encrypt(nonce, b"ninety-six", None)), "-")
    for length in (0, 1, 16, 31):
        print("too-short", show(stream("key", 32)), show(stream("short", length)), "-")


def auth_tag():
    messages = [b"", b"d432fbb3-d2f1-4a97-9ef7-75bd81c00000", b"x" * 200, stream("message", 33)]
    for key_bytes in (16, 32):
        for message in messages:
            key = stream(f"hmac {key_bytes}", key_bytes)
            print(show(key), show(message), hmac.new(key, message, hashlib.sha384).hexdigest())


{"seal": seal, "auth_tag": auth_tag}[sys.argv[1]]()
