"""The table of hosts that lead into the network a service runs in, in every way that a URL can write them.

`WRITTEN` are addresses: they are refused as they stand, before any resolver is asked. `NAMED` are names, harmless to
look at: what they resolve to decides. Any row that is missing here is a hole nobody looks for.
"""

from __future__ import annotations

WRITTEN: dict[str, tuple[str, ...]] = {
    # This machine
    "loopback": ("127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"),
    "loopback, shortened": ("127.1", "127.0.1", "127.0x1", "0x7f.1", "0177.1", "127.0.01"),
    "loopback, decimal": ("2130706433", "02130706433", "4294967296127"),
    "loopback, hexadecimal": ("0x7f000001", "0X7F000001", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "0x7F.0.1"),
    "loopback, octal": ("0177.0.0.1", "017700000001", "00000177.0.0.1", "0177.00.00.01", "127.0.0.01"),
    "loopback, trailing dot": ("127.0.0.1.", "127.1.", "2130706433.", "0x7f.1."),
    "loopback, dots of other scripts": ("127。0。0。1", "127｡0｡0｡1", "127．0．0．1", "127.0。0｡1"),
    "loopback, digits of other scripts": ("①②⑦.⓪.⓪.①", "１２７.0.0.1", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "127.0.0.１", "١٢٧.0.0.1"),
    "loopback, percent-encoded": ("127.0.0.%31", "%31%32%37.0.0.1", "%31%32%37%2e%30%2e%30%2e%31", "127%2E0%2E0%2E1"),
    "unspecified": ("0", "0.0.0.0", "0.0.0.0.", "0x0", "00", "0.0", "000.000.000.000", "[::]", "[0:0:0:0:0:0:0:0]"),
    "zone": ("[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fe80::1%251]"),
    # An IPv4 address inside an IPv6 one
    "mapped": (
        "[::ffff:127.0.0.1]",
        "[::FFFF:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[::ffff:10.0.0.1]",
        "[::ffff:0.0.0.0]",
    ),
    "compatible": ("[::127.0.0.1]", "[::7f00:1]", "[::169.254.169.254]"),
    "translated (SIIT)": ("[::ffff:0:127.0.0.1]", "[::ffff:0:7f00:1]"),
    "NAT64": (
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::a00:1]",
        "[64:ff9b::c0a8:101]",
        "[64:ff9b::0]",
        "[64:ff9b:1::7f00:1]",
        "[64:ff9b:1:7f00:0:100::]",
    ),
    "6to4": ("[2002:7f00:1::]", "[2002:7f00:1::1]", "[2002:a9fe:a9fe::1]", "[2002:a00:1::1]", "[2002:c0a8:101::]"),
    "Teredo": ("[2001::1]", "[2001:0:a9fe:a9fe::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2001:0:7f00:1::]"),
    "ISATAP": (
        "[2606:4700::5efe:7f00:1]",
        "[2606:4700::200:5efe:7f00:1]",
        "[2606:4700::5efe:10.0.0.1]",
        "[fe80::5efe:127.0.0.1]",
    ),
    # Its neighbours
    "private": (
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.1",
        "0xa.0.0.1",
        "012.0.0.1",
        "167772161",
        "10.1",
        "192.168.257",
        "3232235777",
        "0xc0a80101",
    ),
    "shared (carrier's NAT)": ("100.64.0.1", "100.127.255.254"),
    "unique local": ("[fc00::1]", "[fd00::1]", "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]"),
    "link-local": ("169.254.0.1", "169.254.169.253", "[fe80::1]", "[febf::1]"),
    "site-local": ("[fec0::1]", "[feff::1]"),
    "metadata": (
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "025177524776",
        "169.254.43518",
        "169.16689662",
        "１６９。２５４。１６９。２５４",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
    ),
    # Nobody's
    "multicast and broadcast": (
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "0xffffffff",
        "[ff02::1]",
        "[ff0e::1]",
    ),
    "reserved": ("240.0.0.1", "192.88.99.1", "[100::1]", "[4000::1]", "[5f00::1]", "[2001:10::1]"),
    "documentation and tests": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "[2001:db8::1]", "[3fff::1]"),
    "beyond four bytes": ("256.256.256.256", "127.0.0.256", "4294967297", "0x17f000001", "127.0.0.1.1", "1.2.3.4.5"),
}

NAMED: dict[str, tuple[str, ...]] = {
    "this machine": ("localhost", "LOCALHOST", "localhost.", "a.localhost", "ip6-localhost", "localhost.localdomain"),
    "this machine, other letters": ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌｏｃａｌｈｏｓｔ", "loc%61lhost", "loca\u00adlhost"),
    "metadata": (
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "instance-data",
        "metadata.azure.com",
    ),
    "public names of inner addresses": (
        "127.0.0.1.nip.io",
        "localtest.me",
        "0x7f000001.example.com",
        "1.0.0.127.in-addr.arpa",
    ),
    "a neighbour": ("redis", "api.default.svc.cluster.local", "host.docker.internal", "router.lan"),
}

DISGUISED = (
    "https://user@{canary}/",
    "https://user:password@{canary}/",
    "https://example.com@{canary}/",
    "https://example.com:443@{canary}/",
    "https://example.com%40{canary}/",
    "https://{canary}#@example.com/",
    "https://{canary}?@example.com/",
    "https://{canary}/@example.com/",
    "https://example.com\\@{canary}/",
    "https://{canary}\\@example.com/",
    "https://example.com /@{canary}/",
    "https:\\\\{canary}\\",
    "https:///{canary}/",
    "https:{canary}/",
    "//{canary}/",
    "http://{canary}/",
    "HTTP://{canary}/",
    "hTtPs://{canary}/",
    " https://{canary}/",
    "https://{canary}\t/",
    "https://\n{canary}/",
    "https://example.com/\r\nHost: {canary}",
    "gopher://{canary}/",
    "ftp://{canary}/",
    "file://{canary}/etc/passwd",
    "file:///etc/passwd",
    "dict://{canary}/",
    "jar:https://{canary}!/",
    "unix:///run/redis.sock",
    "url:https://{canary}/",
)
"""URLs whose readers disagree about which host they name; `{canary}` is an inner host and its port."""


def written() -> list[str]:
    return [host for hosts in WRITTEN.values() for host in hosts]


def named() -> list[str]:
    return [host for hosts in NAMED.values() for host in hosts]
