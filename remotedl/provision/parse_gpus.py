"""GPUs as the PCI bus, NVIDIA's driver and its container toolkit tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from xml.etree import ElementTree

from remotedl.provision.cdi import gpus_of
from remotedl.provision.facts import Driver, Gpu, GpuClaim, GpuProcess, PciGpu, Toolkit
from remotedl.provision.frame import (
    Section,
    first_json,
    names_of,
    parse_pairs,
    read_file,
    text_of,
    whole,
)

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|&(?![a-z]+;|#)")
"""Characters that no XML may hold, and an ampersand that begins nothing."""


def parse_pci(section: Section) -> tuple[PciGpu, ...]:
    """Display controllers only: NVIDIA's audio and NVSwitch functions are no GPUs."""
    gpus = list[PciGpu]()
    for line in section.lines:
        fields = [*line.split(), ""]
        if len(fields) >= 5 and fields[3].startswith("0x03"):
            try:
                device = int(fields[2], 16)
            except ValueError:
                continue
            gpus.append(PciGpu(fields[0], fields[1], device, fields[4]))
    return tuple(sorted(gpus, key=lambda gpu: gpu.address))


def parse_driver(
    files: Section, smi: Section, processes: Section
) -> tuple[Driver, tuple[Gpu, ...]]:
    """The driver from its files, and the GPUs from `nvidia-smi -q -x`."""
    pairs = parse_pairs(files)
    loaded_line = pairs.get("loaded", "")
    loaded = re.search(r"(?:Module(?: for \S+)?)\s+(\d[\d.]+)", loaded_line)
    at, _, said = smi.text.partition("\n") if smi.text.startswith("at ") else ("", "", smi.text)
    driver = Driver(
        loaded=loaded.group(1) if loaded else pairs.get("module", ""),
        on_disk=pairs.get("ondisk", ""),
        open="Open Kernel Module" in loaded_line,
        nouveau="nouveau" in pairs,
        smi=at.removeprefix("at "),
        smi_said="" if "<nvidia_smi_log" in said else said.strip(),
    )
    log = read_smi_log(said)
    if log is None:
        return driver, ()
    people = parse_gpu_people(processes)
    gpus = tuple(gpu_of(index, node, people) for index, node in enumerate(log.findall("gpu")))
    driver = replace(
        driver,
        smi_works=True,
        cuda=(log.findtext("cuda_version") or "").strip(),
        library=(log.findtext("driver_version") or "").strip(),
    )
    return replace(driver, loaded=driver.loaded or driver.library), gpus


def read_smi_log(text: str) -> ElementTree.Element | None:
    """The <nvidia_smi_log> of `nvidia-smi -q -x`. Its DTD is dropped: nothing is ever fetched.

    Programs name themselves as they like, and nvidia-smi escapes nothing of it.
    """
    start, end = text.find("<nvidia_smi_log"), text.rfind("</nvidia_smi_log>")
    if start < 0 or end < 0:
        return None
    try:
        body = NOT_XML.sub("?", text[start : end + len("</nvidia_smi_log>")])
        return ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        return None


def parse_gpu_people(section: Section) -> dict[int, tuple[str, int, str]]:
    """pid -> (user, started, container id)."""
    people: dict[int, tuple[str, int, str]] = {}
    for line in section.lines:
        fields = line.split()
        if len(fields) >= 4 and fields[0].isdigit():
            user = "" if fields[1] == "-" else fields[1]
            container = "" if fields[3] == "-" else fields[3]
            people[int(fields[0])] = (user, whole(fields[2]), container)
    return people


def gpu_of(
    index: int, node: ElementTree.Element, people: Mapping[int, tuple[str, int, str]]
) -> Gpu:
    def text(path: str) -> str:
        return (node.findtext(path) or "").strip()

    def number(path: str) -> int | None:
        value = text(path)
        return whole(value) if value[:1].isdigit() else None

    uuid = text("uuid")
    processes = list[GpuProcess]()
    for item in node.findall("processes/process_info"):
        pid = whole(item.findtext("pid") or "")
        user, started, container = people.get(pid, ("", 0, ""))
        name = (item.findtext("process_name") or "").strip()
        memory = mebibytes(item.findtext("used_memory") or "")
        processes.append(GpuProcess(uuid, pid, name, memory, user, started, container))
    return Gpu(
        index=index,
        uuid=uuid,
        name=text("product_name"),
        pci=(node.get("id") or "").lower(),
        memory_total=mebibytes(text("fb_memory_usage/total")),
        memory_used=mebibytes(text("fb_memory_usage/used")),
        utilisation=number("utilization/gpu_util"),
        mig=text("mig_mode/current_mig") == "Enabled",
        temperature=number("temperature/gpu_temp"),
        processes=tuple(sorted(processes, key=lambda process: process.pid)),
    )


def mebibytes(text: str) -> int:
    """Bytes of "1234 MiB"; 0 of "N/A"."""
    return whole(text) * 1024 * 1024


def parse_claims(section: Section) -> tuple[GpuClaim, ...]:
    """Lines of "FILE_OWNER {json}". What cannot be read is no claim.

    Whose it is says the file's owner, whatever the file says.
    """
    claims = list[GpuClaim]()
    for line in section.lines:
        owner, _, text = line.partition(" ")
        body = first_json(Section(0, text))
        until = body.get("until")
        if isinstance(until, int | float):
            claims.append(
                GpuClaim(
                    user=owner,
                    gpus=names_of(body.get("gpus")),
                    until=int(until),
                    project=text_of(body.get("project")),
                    name=text_of(body.get("name")),
                )
            )
    return tuple(sorted(claims, key=lambda claim: (claim.user, claim.until)))


def parse_toolkit(section: Section, tools: Mapping[str, str]) -> Toolkit:
    """`nvidia-ctk --version` says "NVIDIA Container Toolkit CLI version 1.20.0"."""
    match = re.search(r"version (\d+\.\d+\.\d+\S*)", section.text)
    pairs = [line.partition(" ") for line in section.lines]
    specs = dict[str, tuple[str, ...] | None]()
    for path, _, text in (read_file(rest) for word, _, rest in pairs if word == "spec"):
        specs[path] = None if text is None else gpus_of(text)
    return Toolkit(
        version=match.group(1) if match else "",
        hook="nvidia-container-runtime-hook" in tools,
        cdi_hook="nvidia-cdi-hook" in tools,
        cli="nvidia-container-cli" in tools,
        no_cgroups=any(word == "no_cgroups" for word, _, _ in pairs),
        specs=tuple(sorted(path for path, names in specs.items() if names is None or names)),
        devices=tuple(sorted({name for names in specs.values() for name in names or ()})),
    )


def parse_ubuntu_drivers(section: Section) -> tuple[str, ...]:
    """Package names of "nvidia-driver-570-server-open, (kernel modules provided by …)"."""
    found = (re.match(r"(nvidia-driver-\S+?)(?:,|\s|$)", line) for line in section.lines)
    return tuple(sorted({match.group(1) for match in found if match}))
