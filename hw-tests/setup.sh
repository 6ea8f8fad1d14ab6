# Set-up that demo, test and bench share: sourced by them, not run.
#
# A fresh Debian 12 or Ubuntu gets the packages that are missing, with root or sudo; without either, the one command to
# run is printed. Rust isn't installed: rustup is the one prerequisite.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# What the programs link to, what the scenarios run (Python for revocation actions, SSH for a node that is kept out), what packs
# images and packages for the tools that read them, and what compiles C for ring and SQLite.
packages=(gcc binutils libc6-dev pkg-config libtss2-dev swtpm swtpm-tools tpm2-tools iproute2 procps openssl python3 curl
    openssh-client dropbear-bin dpkg gzip lz4 tar xz-utils zstd)
# What the static agents are built with and, for Arm, run by.
static_packages=(musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
# What boots guests; what they boot is unpacked below the target directory, see unpack_guest.
guest_packages=(qemu-system-x86 ovmf musl-tools e2fsprogs cryptsetup-bin systemd-boot-efi)
# A Debian system that makes initramfs images, with all that these depend on.
system_packages=(base-files bash coreutils dash debianutils diffutils findutils grep gzip sed tar util-linux mount libc-bin mawk
    cpio kmod udev systemd systemd-sysv procps iproute2 iputils-arping isc-dhcp-client e2fsprogs cryptsetup cryptsetup-initramfs openssh-client
    dracut-core dracut-network initramfs-tools-core klibc-utils busybox)

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

# $1 is "ask" where a person should agree first.
install_packages() {
    local missing answer as_root=()
    command -v dpkg-query >/dev/null || { check_tools; return; }
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing packages: as root, run: apt-get install $missing"
        as_root=(sudo)
        # Without a terminal nobody can type a password.
        [ -t 0 ] || sudo -n true 2>/dev/null || die "missing packages: run: sudo apt-get install $missing"
    fi
    if [ "${1-}" = ask ]; then
        [ -t 0 ] || die "missing packages: $missing(run again with --yes to install them)"
        read -r -p "Install $missing? [y/N] " answer
        [[ $answer == [yY]* ]] || die "nothing installed"
    fi
    say "installing $missing"
    "${as_root[@]}" apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
}

# Not Debian: say what has to be there.
check_tools() {
    local tool
    for tool in cc pkg-config swtpm swtpm_setup tpm2_createprimary ip openssl python3 curl ssh-keygen dropbear dpkg-deb gzip lz4 tar xz zstd; do
        PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || die "$tool is missing; on Debian it comes with one of: ${packages[*]}"
    done
    pkg-config --exists tss2-esys || die "libtss2's development files are missing (tss2-esys.pc)"
}

check_rust() {
    local wanted have
    # rustup's installer changes the profile of the next login only.
    command -v cargo >/dev/null || [ ! -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs, then run this again"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -1)" = "$wanted" ] ||
        die "Rust $have is too old, $wanted is needed: run: rustup update stable"
}

# Cargo runs each test program, and these scripts run theirs, in namespaces of its own.
use_namespaces() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    host=${host^^}
    export "CARGO_TARGET_${host//-/_}_RUNNER=$root/hw-tests/namespace"
    "$root/hw-tests/namespace" true
}

# The agent as one static file without a C library, beside the other programs: $1 is x86_64 or aarch64. Fails where the
# toolchain hasn't the target and rustup can't bring it.
build_static_agent() { build_static "$1" raw "keyhalf-agent-static-$1"; }

# The same with nothing but the commands that call a verifier.
build_static_caller() { build_static "$1" device "keyhalf-agent-calling-$1"; }

# For $1, with the features $2, as the file $3.
build_static() {
    local target=$1-unknown-linux-musl
    if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
        rustup target add "$target" >&2 || return 1
    fi
    # ring has C and assembly in it.
    CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc \
        cargo build --profile tiny -p agent-linux --no-default-features --features "$2" --target "$target" --locked ||
        die "the static agent for $1 can't be built with the features $2"
    local profile
    for profile in debug release; do
        [ ! -d "$(target_dir)/$profile" ] ||
            cp "$(target_dir)/$target/tiny/keyhalf-agent" "$(target_dir)/$profile/$3"
    done
}

target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$root/target}"; }

# Keylime's programs, in a Python environment of their own below the target directory. Fails if the Python registry can't
# be reached, and ends the script if it can and Keylime can't be installed all the same.
install_keylime() {
    local home stamp
    home=$(target_dir)/keylime-7.14.3
    stamp=$(sha256sum hw-tests/keylime/requirements.txt)
    export KEYHALF_KEYLIME=$home
    [ "$(cat "$home/installed" 2>/dev/null)" != "$stamp" ] || return 0
    say "== installing Keylime 7.14.3 to $home"
    rm -rf "$home"
    # Debian's Python, because python3-gpg is built for it and in no registry.
    /usr/bin/python3 -m venv "$home" || die "python3-venv is missing"
    if ! "$home/bin/pip" --disable-pip-version-check --retries 2 --timeout 20 download --quiet --no-deps \
        --dest "$home/probe" keylime==7.14.3; then
        say "== the Python registry can't be reached"
        return 1
    fi
    "$home/bin/pip" --disable-pip-version-check install --quiet --require-hashes \
        -r hw-tests/keylime/requirements.txt || die "Keylime can't be installed"
    ln -s /usr/lib/python3/dist-packages/gpg "$home"/lib/python3*/site-packages/
    "$home/bin/python3" -c 'import gpg' || die "Debian's python3-gpg doesn't work in $home"
    printf '%s\n' "$stamp" >"$home/installed"
}

# nginx, which reads the tenant's revocation lists in a test: its program alone, below the target directory, because the package
# installed would serve the machine from then on.
find_nginx() {
    local home
    home=$(target_dir)/nginx
    if [ ! -x "$home/usr/sbin/nginx" ] && ! PATH=$PATH:/usr/sbin command -v nginx >/dev/null; then
        say "== unpacking nginx"
        mkdir -p "$home"
        # Lists that are missing or old name a package that the archive hasn't.
        download_nginx "$home" || { [ "$(id -u)" = 0 ] && apt-get update -qq >&2 && download_nginx "$home"; } ||
            die "nginx is missing, and the package archive hasn't it"
        dpkg-deb -x "$home"/nginx_*.deb "$home" || die "nginx can't be unpacked"
    fi
    export PATH=$home/usr/sbin:$PATH:/usr/sbin
}

download_nginx() { (cd "$1" && apt-get download -qq nginx) >&2; }

# The kernel's package: linux-image-cloud-amd64 depends on it.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
}

# What guests boot: Debian's packages, unpacked below the target directory and not installed. Fails if the package
# archive can't be reached or hasn't them.
unpack_guest() {
    local home name versions as_root=(sudo -n)
    home=$(target_dir)/guest
    export KEYHALF_GUEST=$home
    command -v apt-cache >/dev/null || { say "== no package archive: guests boot Debian's kernel"; return 1; }
    name=$(kernel_package)
    versions="${name:-kernel} ${system_packages[*]} $(sha256sum hw-tests/src/guest/report.S)"
    [ "$(cat "$home/unpacked" 2>/dev/null)" != "$versions" ] || return 0
    # Lists that are missing or old name packages that the archive hasn't.
    if [ -z "$name" ] || ! unpack_packages "$name"; then
        [ "$(id -u)" != 0 ] || as_root=()
        "${as_root[@]}" apt-get update -qq || { say "== the package archive can't be reached"; return 1; }
        name=$(kernel_package)
        [ -n "$name" ] || { say "== the package archive has no linux-image-cloud-amd64"; return 1; }
        unpack_packages "$name" || { say "== the package archive can't be reached"; return 1; }
        versions="$name ${versions#* }"
    fi
    printf '%s\n' "$versions" >"$home.new/unpacked"
    rm -rf "$home"
    mv "$home.new" "$home"
}

# Downloads packages, with the kernel $1, and unpacks them to a new directory beside the one that is in use.
unpack_packages() {
    local new from system
    new=$(target_dir)/guest.new
    say "== unpacking $1 and a small Debian system"
    rm -rf "$new"
    mkdir -p "$new/packages" "$new/system/usr"
    mapfile -t system < <(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "${system_packages[@]}" | grep '^[a-z0-9][^:<]*$' | sort -u)
    # apt's own user may not be able to write there, which is a warning.
    (cd "$new/packages" && apt-get download -qq "$1" busybox-static bash-static "${system[@]}") >&2 || return 1
    for from in "$1:kernel" busybox-static:busybox bash-static:bash; do
        dpkg-deb -x "$new/packages/${from%:*}"_*.deb "$new/${from#*:}" || die "${from%:*} can't be unpacked"
    done
    # As an installed system has it: its scripts aren't run.
    for from in bin sbin lib lib64; do
        mkdir "$new/system/usr/$from"
        ln -s "usr/$from" "$new/system/$from"
    done
    for from in "${system[@]}"; do
        dpkg-deb --fsys-tarfile "$new/packages/$from"_*.deb |
            tar -x --no-same-owner --keep-directory-symlink -C "$new/system" || die "$from can't be unpacked"
    done
    ln -s mawk "$new/system/usr/bin/awk"
    hw-tests/namespace chroot "$new/system" /sbin/ldconfig || die "the unpacked system doesn't work"
    rm -r "$new/packages"
    gcc -nostdlib -static -o "$new/report" hw-tests/src/guest/report.S || die "report.S can't be assembled"
}
