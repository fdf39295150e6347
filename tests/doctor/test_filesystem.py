import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.doctor import filesystem
from jobrunner.doctor.filesystem import judged_kind, judged_room, mount_of
from jobrunner.doctor.findings import Grade
from jobrunner.doctor.units import Unit
from jobrunner.mounts import Mount
from jobrunner.store import migrations
from jobrunner.store.engine import Store
from tests.doctor.looking import grades, look, serious, warnings

NOBODY = pwd.getpwuid(65534)
ROOT = Path(__file__).parents[2]

# Lines of real machines: a laptop, a container, WSL, a cluster's node.
MOUNTINFO = r"""
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
36 22 0:33 / /proc rw,nosuid - proc proc rw
98 22 0:45 / /mnt/home rw,relatime shared:55 - nfs4 server:/export/home rw,vers=4.2,addr=10.0.0.1
99 98 0:46 / /mnt/home/local rw,relatime shared:56 - xfs /dev/nvme0n1p1 rw,attr2
100 22 0:47 / /mnt/two\040words\011and\134more rw - fuse.sshfs me@host:/my\040files rw,user_id=1000
101 22 0:48 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs
102 22 0:49 /@data /srv rw,relatime shared:60 master:2 - btrfs /dev/sdb rw,subvol=/@data
103 22 0:50 / /mnt/quick rw,nosuid - tmpfs tmpfs rw,size=8g
104 22 0:51 / /run/sealed ro,relatime - ext4 /dev/sdc rw
105 22 0:52 / /run/worn rw,relatime - ext4 /dev/sdd ro
106 22 0:53 / /var/lib/box rw - overlay overlay rw,lowerdir=/a:/b
107 22 0:54 / /twice rw - ext4 /dev/sde rw
108 107 0:55 / /twice rw - cifs //server/share rw
109 22 0:56 / /nothing rw - tmpfs  rw
""".strip()


@pytest.mark.parametrize(
    ("directory", "kind", "grade"),
    [
        ("/var/lib/jobrunner", "ext4", Grade.OK),
        ("/mnt/home/me/data", "nfs4", Grade.SERIOUS),
        ("/mnt/home/local/data", "xfs", Grade.OK),
        ("/mnt/homely", "ext4", Grade.OK),
        ("/mnt/two words\tand\\more/data", "fuse.sshfs", Grade.SERIOUS),
        ("/mnt/c/Users", "9p", Grade.SERIOUS),
        ("/srv/data", "btrfs", Grade.OK),
        ("/mnt/quick/data", "tmpfs", Grade.WARNING),
        ("/nothing", "tmpfs", Grade.WARNING),
        ("/var/lib/box/data", "overlay", Grade.WARNING),
        ("/twice/data", "cifs", Grade.SERIOUS),
        ("/run/sealed/data", "ext4", Grade.SERIOUS),
        ("/run/worn/data", "ext4", Grade.SERIOUS),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(directory: str, kind: str, grade: Grade) -> None:
    mount = mount_of(Path(directory), MOUNTINFO)
    assert mount.kind == kind
    assert grades(judged_kind(Path(directory), mount)) == [grade]


def test_a_network_file_system_is_named_with_the_remedy() -> None:
    (said,) = judged_kind(Path("/mnt/x"), Mount(Path("/"), Path("/mnt"), "nfs4", frozenset({"rw"})))
    text = "/mnt/x is on nfs4: SQLite's locks do not hold there; put `data` on a local disk"
    assert said == (Grade.SERIOUS, text)


@pytest.mark.parametrize("kind", ["fuse.glusterfs", "lustre", "ceph", "smb3", "fuse.vmhgfs-fuse", "virtiofs"])
def test_what_is_shared_with_other_machines_is_refused(kind: str) -> None:
    mount = Mount(Path("/"), Path("/"), kind, frozenset({"rw"}))
    assert grades(judged_kind(Path("/x"), mount)) == [Grade.SERIOUS]


def disk(
    *, free: int, size: int = 100 << 30, free_files: int = 10**6, files: int = 10**7
) -> os.statvfs_result:
    block = 4096
    return os.statvfs_result(
        (block, block, size // block, free // block, free // block, files, free_files, free_files, 0, 255)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (disk(free=20 << 30), [Grade.OK]),
        (disk(free=4 << 30), [Grade.WARNING]),  # less than a twentieth
        (disk(free=900 << 20, size=2 << 30), [Grade.WARNING]),
        (disk(free=63 << 20), [Grade.SERIOUS]),
        (disk(free=20 << 30, free_files=999), [Grade.OK, Grade.WARNING]),
        (disk(free=20 << 30, free_files=3), [Grade.OK, Grade.SERIOUS]),
        (disk(free=20 << 30, free_files=0, files=0), [Grade.OK]),  # btrfs counts no files
    ],
)
def test_little_room_is_told_before_there_is_none(given: os.statvfs_result, expected: list[Grade]) -> None:
    assert grades(judged_room(Path("/x"), given)) == expected


# -- whose it is ------------------------------------------------------------------------------------


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory with a store, closed to others, in a place where everybody comes by."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        made = Path(place) / "data"
        made.mkdir(mode=0o700)
        store = Store(f"sqlite:///{made}/jobrunner.db")
        migrations.prepare(store)
        store.close()
        (made / "jobrunner.db").chmod(0o644)
        yield made


def unit_of(user: str, data: Path) -> Unit:
    started = f"{{ path=/bin/jobrunner ; argv[]=/bin/jobrunner dispatcher --data {data} ; pid=0 }}"
    return Unit("it.service", {"LoadState": "loaded", "User": user, "ExecStart": started})


def test_a_store_of_ones_own_that_is_closed_to_others_is_right(data: Path) -> None:
    assert grades(filesystem.access(look(data))) == [Grade.OK]


def test_a_store_that_everybody_can_read_is_told(data: Path) -> None:
    data.chmod(0o755)
    (said,) = warnings(filesystem.access(look(data)))
    assert said.endswith(f"can read the jobs and their results: chmod o-rwx {data}/jobrunner.db*")


def test_a_directory_above_that_is_closed_closes_all_below(data: Path) -> None:
    data.chmod(0o755)
    data.parent.chmod(0o700)
    assert grades(filesystem.access(look(data))) == [Grade.OK]


@pytest.mark.parametrize("name", ["", "jobrunner.db"])
def test_a_store_that_everybody_can_change_is_serious(data: Path, name: str) -> None:
    data.chmod(0o755)
    (data / name).chmod(0o777)
    (said,) = serious(filesystem.access(look(data)))
    assert said == f"everybody on this machine can change {data / name}: chmod o-w {data / name}"


def test_where_nothing_is_yet_the_place_is_looked_at_in_which_it_will_be(data: Path) -> None:
    situation = look(data / "not" / "yet")
    assert situation.directory == data
    assert grades(filesystem.access(situation)) == [Grade.OK]
    assert grades(filesystem.kind(situation)) == grades(filesystem.kind(look(data)))
    assert not (data / "not").exists()


def test_the_files_lie_where_a_link_leads_to(data: Path, tmp_path: Path) -> None:
    (tmp_path / "jobrunner.db").symlink_to(data / "jobrunner.db")
    assert look(tmp_path).directory == data


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@needs_root
def test_a_file_that_root_has_left_in_the_services_store_is_serious(data: Path) -> None:
    os.chown(data, NOBODY.pw_uid, -1)
    os.chown(data / "jobrunner.db.upgrade", NOBODY.pw_uid, -1)
    situation = look(data)
    (said,) = serious(filesystem.access(situation))
    assert said == (
        f"{data}/jobrunner.db belongs to root, and {NOBODY.pw_name} cannot write it: "
        f"chown -R {NOBODY.pw_name} {data}"
    )
    situation.store.close()
    os.chown(data / "jobrunner.db", NOBODY.pw_uid, -1)
    assert grades(filesystem.access(look(data))) == [Grade.OK]


@needs_root
def test_a_store_that_the_units_user_cannot_write_is_serious(data: Path) -> None:
    assert serious(filesystem.access(look(data, unit_of(NOBODY.pw_name, data))))
    assert not serious(filesystem.access(look(data, unit_of("root", data))))
    assert not serious(filesystem.access(look(data, unit_of(NOBODY.pw_name, data / "another"))))


def as_nobody(*directories: Path) -> list[str]:
    """What is said of access and schema to a user who is not root."""
    if not all(place.stat().st_mode & 0o001 for place in (ROOT, *ROOT.parents)):
        pytest.skip(f"{ROOT} can be reached by its owner alone, so nobody else can import what lies there")
    code = f"""
import os, sys
from pathlib import Path
from jobrunner.doctor import filesystem, sqlite
from tests.doctor.looking import look

def told(directory):
    situation = look(Path(directory))
    return [*filesystem.access(situation), *sqlite.schema(situation)]

told("/")  # as root, for all that must be imported: nobody need be able to read it
os.setresuid({NOBODY.pw_uid}, {NOBODY.pw_uid}, {NOBODY.pw_uid})
for directory in sys.argv[1:]:
    for grade, text in told(directory):
        print(grade, text)
"""
    run = [sys.executable, "-c", code, *map(str, directories)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs_root
def test_who_may_not_look_into_the_store_is_told_who_may(data: Path) -> None:
    first, second = as_nobody(data)
    assert first.startswith(f"warning you are {NOBODY.pw_name}, the store in {data} is root's")
    assert (
        second == f"warning {data}/jobrunner.db cannot be looked at by you; run this as its owner, or as root"
    )


@needs_root
def test_an_owner_who_cannot_write_the_store_is_serious(data: Path) -> None:
    for path in (data, *data.iterdir()):
        os.chown(path, NOBODY.pw_uid, -1)
    assert [line.partition(" ")[0] for line in as_nobody(data)] == ["ok", "ok"]
    data.chmod(0o500)
    access, schema = as_nobody(data)
    assert access == f"serious {NOBODY.pw_name} cannot write {data}: chmod u+rwx {data}"
    assert schema.startswith("serious ")
