"""What a validation's cluster will do, from what it is asked for; nothing is started."""

from __future__ import annotations

from sprint_export.libraries import check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.validate.cluster.address import check_address
from sprint_export.validate.cluster.job import KIND, Job, describe_student
from sprint_export.validate.cluster.pool import Cluster
from sprint_export.validate.drawing import picture_side
from sprint_export.validate.inquiry import Inquiry
from sprint_export.validate.kept import Kept
from sprint_export.validate.pace import SMALL_PICTURE
from sprint_export.validate.side_by_side import OWNER_LETTERS, describe_side


def plan_cluster(bundle: Bundle, student: Student, inquiry: Inquiry, is_timed: bool) -> Cluster:
    """The workers that Inquiry.ray asks for; nothing is started yet.

    Raises:
        MachineError: ray is not installed, or nobody is at the address. InputError: it is no address, or a worker cannot load the
            student.
    """
    assert inquiry.ray is not None
    check_installed(["ray"])
    check_address(inquiry.ray)
    is_small = picture_side(bundle) <= SMALL_PICTURE
    job = Job(
        bundle=str(bundle.folder.resolve()),
        identity=bundle.identity,
        student=describe_student(student),
        variant=student.variant,
        parts=student.parts,
        runtime=inquiry.runtime,
        provider=inquiry.provider,
        compute=inquiry.compute.device,
        is_timed=is_timed,
        one_at_a_time=not is_small,
    )
    return Cluster(inquiry.ray, job, is_small, Kept(KIND, describe_side(bundle, job.bundle)[:OWNER_LETTERS]))
