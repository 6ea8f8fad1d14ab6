"""Writes the archives of Python's zipfile that the reader is tested with: make.py DIRECTORY."""
import io
import pathlib
import sys
import zipfile

OUT = pathlib.Path(sys.argv[1])
TEXT = b"ssh-rsa AAAA keyhalf\n" * 500


class Pipe(io.RawIOBase):
    """Can't seek, so that zipfile writes data descriptors."""

    def __init__(self):
        self.bytes = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.bytes += bytes(data)
        return len(data)


def info(name, mode):
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = mode << 16
    entry.create_system = 3
    return entry


def stored(archive):
    """As Keylime's tenant writes its package: stored, 0600 without a file type."""
    for name in ("cacert.crt", "RevocationNotifier-cert.crt"):
        archive.writestr(info(name, 0o600), name.encode() * 10)
    archive.writestr(info("autorun.sh", 0o600), b"#!/bin/bash\ncp payload_id_rsa* /root/.ssh/\n")


def deflated_comment(archive):
    archive.writestr(info("keys/", 0o040750), b"")
    archive.writestr(info("keys/text", 0o100640), TEXT, compress_type=zipfile.ZIP_DEFLATED)
    archive.writestr(info("empty", 0o100400), b"", compress_type=zipfile.ZIP_DEFLATED)
    archive.comment = b"a comment with PK\x05\x06 in it"


def descriptor(archive):
    archive.writestr(info("deflated", 0o100600), TEXT, compress_type=zipfile.ZIP_DEFLATED)
    archive.writestr(info("stored", 0o100600), b"as it is", compress_type=zipfile.ZIP_STORED)


def wide(content):
    def write(archive):
        with archive.open(info("wide", 0o100600), "w", force_zip64=True) as entry:
            entry.write(content)

    return write


def save(name, write, target):
    with zipfile.ZipFile(target, "w") as archive:
        write(archive)
    data = target.bytes if isinstance(target, Pipe) else target.getvalue()
    (OUT / f"python-{name}.zip").write_bytes(bytes(data))


save("stored", stored, io.BytesIO())
save("deflated-comment", deflated_comment, io.BytesIO())
save("descriptor", descriptor, Pipe())
save("zip64-local", wide(b"zip64 in the local header"), io.BytesIO())
save("zip64-descriptor", wide(b"a wide descriptor"), Pipe())
