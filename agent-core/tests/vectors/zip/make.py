"""Writes the archives of Python's zipfile that the reader is tested with: make.py DIRECTORY."""
import zipfile, io, sys, os, stat
out=sys.argv[1]
def info(name, mode=0o100600):
    i=zipfile.ZipInfo(name,(1980,1,1,0,0,0)); i.external_attr=mode<<16; i.create_system=3; return i
TEXT=b"ssh-rsa AAAA keyhalf\n"*500
class NoSeek(io.RawIOBase):
    def __init__(s): s.b=bytearray()
    def writable(s): return True
    def write(s,d): s.b+=bytes(d); return len(d)
def save(name,data): open(os.path.join(out,name),'wb').write(bytes(data))
# Keylime's --cert package: stored, 0600
b=io.BytesIO()
with zipfile.ZipFile(b,'w',compression=zipfile.ZIP_STORED) as z:
    for n in ("cacert.crt","RevocationNotifier-cert.crt"): z.writestr(n, n.encode()*10)
    z.writestr("autorun.sh", b"#!/bin/bash\ncp payload_id_rsa* /root/.ssh/\n")
save('python-stored.zip', b.getvalue())
b=io.BytesIO()
with zipfile.ZipFile(b,'w') as z:
    z.writestr(info("keys/",0o040750), b"")
    z.writestr(info("keys/text",0o100640), TEXT, compress_type=zipfile.ZIP_DEFLATED)
    z.writestr(info("empty",0o100400), b"", compress_type=zipfile.ZIP_DEFLATED)
    z.comment=b"a comment with PK\x05\x06 in it"
save('python-deflated-comment.zip', b.getvalue())
s=NoSeek()
with zipfile.ZipFile(s,'w') as z:
    z.writestr(info("deflated"), TEXT, compress_type=zipfile.ZIP_DEFLATED)
    z.writestr(info("stored"), b"as it is", compress_type=zipfile.ZIP_STORED)
save('python-descriptor.zip', s.b)
b=io.BytesIO()
with zipfile.ZipFile(b,'w') as z:
    with z.open(info("wide"),'w',force_zip64=True) as f: f.write(b"zip64 in the local header")
save('python-zip64-local.zip', b.getvalue())
s=NoSeek()
with zipfile.ZipFile(s,'w') as z:
    with z.open(info("wide"),'w',force_zip64=True) as f: f.write(b"a wide descriptor")
save('python-zip64-descriptor.zip', s.b)
