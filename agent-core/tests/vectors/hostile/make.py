"""Writes the archives that must be refused: make.py DIRECTORY. Python's zipfile writes any name it's told; what it
won't write is changed in its bytes afterwards, in both headers."""
import io
import pathlib
import struct
import sys
import zipfile
import zlib

OUT = pathlib.Path(sys.argv[1])
MIB = 1024 * 1024
SCRIPT = b"#!/bin/sh\necho escaped\n"


def info(name, mode=0o100644):
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.filename = name
    entry.external_attr = mode << 16
    entry.create_system = 3
    return entry


def archive(*entries):
    """Of `(ZipInfo, content)`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for entry, content in entries:
            entry.compress_type = zipfile.ZIP_DEFLATED if len(content) > 100 else zipfile.ZIP_STORED
            target.writestr(entry, content)
    return out.getvalue()


def save(name, data):
    (OUT / f"{name}.zip").write_bytes(data)


def named(name, *others):
    return archive((info("first"), b"harmless"), (info(name), SCRIPT), *others)


def renamed(real, hidden):
    """An archive with a name that zipfile wouldn't write as it is: as many bytes, put in place of others."""
    assert len(real) == len(hidden)
    data = named(real)
    assert data.count(real.encode()) == 2
    return data.replace(real.encode(), hidden)


save("slip-parent", named("../autorun.sh"))
save("slip-deep", named("sub/../../../../root/.ssh/authorized_keys"))
save("slip-end", named("sub/.."))
save("slip-dot", named("./autorun.sh"))
save("slip-absolute", named("/etc/cron.d/escaped"))
save("slip-double-slash", named("sub//autorun.sh"))
save("slip-backslash", named("..\\autorun.sh"))
save("slip-drive", named("C:\\autorun.sh"))
save("slip-nul", renamed("autorun.shX../etc", b"autorun.sh\0../etc"))
save("slip-overlong", renamed("XXXX/autorun.sh", b"\xc0\xae\xc0\xae/autorun.sh"))
save("slip-newline", named("autorun.sh\nok"))
save("slip-link", archive((info("out", 0o120777), b"/etc"), (info("out/passwd"), SCRIPT)))
save("slip-link-file", archive((info("autorun.sh", 0o120777), b"../../etc/shadow")))
save("slip-device", archive((info("null", 0o020666), b"")))
save("slip-file-as-directory", archive((info("sub"), b"file"), (info("sub/autorun.sh"), SCRIPT)))
save("slip-twice", archive((info("autorun.sh"), b"one"), (info("sub"), b""), (info("autorun.sh"), b"two")))
local = named("../autorun.sh")
at = local.rindex(b"../autorun.sh")
save("slip-local-header", local[:at] + b"sub/autorun.x" + local[at + 13:])
at = local.index(b"../autorun.sh")
save("slip-directory", local[:at] + b"sub/autorun.x" + local[at + 13:])

save("bomb-large", archive((info("zeros"), bytes(8 * MIB)), (info("one more"), b"x")))
save("bomb-ratio", archive((info("zeros"), bytes(4 * MIB))))
save("bomb-parts", archive(*[(info(f"zeros{n}"), bytes(300 * 1024)) for n in range(6)]))

honest = archive((info("zeros"), bytes(MIB)))
lying = bytearray(honest)
for at in (honest.index(b"PK\x03\x04") + 22, honest.index(b"PK\x01\x02") + 24):
    struct.pack_into("<I", lying, at, 10)
save("bomb-lying-size", bytes(lying))

many = bytearray(archive((info("first"), b"")))
end = many.rindex(b"PK\x05\x06")
struct.pack_into("<HH", many, end + 8, 0xFFFE, 0xFFFE)
save("bomb-count", bytes(many))

# Fifield's bomb: every entry is the same kernel of zeros.
kernel = archive((info("0"), bytes(200 * 1024)))
start, end = kernel.index(b"PK\x01\x02"), kernel.rindex(b"PK\x05\x06")
header = kernel[start:end]
headers = b"".join(header[:46] + bytes([ord("0") + n]) for n in range(5))
save("bomb-same-place", kernel[:start] + headers + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 5, 5, len(headers), start, 0))

# The same with the later headers quoted inside of stored entries, so that all names are right.
body, headers = b"", b""
packed = zlib.compressobj(9, zlib.DEFLATED, -15)
packed = packed.compress(bytes(200 * 1024)) + packed.flush()


def headers_of(name, method, crc, content, size, offset):
    shared = struct.pack("<5H3I2H", 20, 0, method, 0, 33, crc, len(content), size, len(name), 0)
    return (b"PK\x03\x04" + shared + name,
            b"PK\x01\x02" + struct.pack("<H", 0x31E) + shared + struct.pack("<3H2I", 0, 0, 0, 0o100644 << 16, offset) + name)


inner, inner_central = headers_of(b"kernel", 8, zlib.crc32(bytes(200 * 1024)), packed, 200 * 1024, 36)
quoted = inner + packed
outer, outer_central = headers_of(b"quotes", 0, zlib.crc32(quoted), quoted, len(quoted), 0)
assert len(outer) == 36
headers = outer_central + inner_central
body = outer + quoted
save("bomb-quoted", body + headers + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, len(headers), len(body), 0))

save("bomb-nested", archive((info("inner.zip"), archive((info("zeros"), bytes(4 * MIB))))))

wide = archive((info("wide"), b"x"))
start, end = wide.index(b"PK\x01\x02"), wide.rindex(b"PK\x05\x06")
header = bytearray(wide[start:end])
struct.pack_into("<I", header, 24, 0xFFFFFFFF)
struct.pack_into("<H", header, 10, 8)
struct.pack_into("<H", header, 30, 12)
extra = struct.pack("<2HQ", 1, 8, 2**63)
body = bytearray(wide[:start])
struct.pack_into("<H", body, 8, 8)
struct.pack_into("<I", body, 22, 0xFFFFFFFF)
struct.pack_into("<H", body, 28, 20)
body[34:34] = struct.pack("<2H2Q", 1, 16, 2**63, 1)
header += extra
save("bomb-wide", bytes(body) + bytes(header) + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(header), len(body), 0))
