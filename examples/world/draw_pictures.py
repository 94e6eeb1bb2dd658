"""Draws the world's pictures once, from icon packs that people drew and named, and packs them into one file.

    npm pack @iconify-json/noto @iconify-json/fluent-emoji-flat @iconify-json/twemoji @iconify-json/emojione \
        @iconify-json/fxemoji @iconify-json/openmoji emojibase-data
    python examples/world/draw_pictures.py FOLDER_OF_THE_TGZ --output examples/world/pictures.zip

Needs Node's npm, CairoSVG (`pip install cairosvg`) and Cairo (Debian: `apt-get install libcairo2`). OpenMoji's pictures
go to `--held-back`, a second file that is not shipped: a style that no training sees.
"""

import argparse
import io
import json
import tarfile
import zipfile
from pathlib import Path

import cairosvg
from PIL import Image
from world import HELD_BACK, STYLES


SIDE = 64  # pixels of a picture
COLUMNS = 32  # pictures in a row of a sheet
GROUPS = {3: "animals and nature", 4: "food and drink", 5: "travel and places", 6: "activities", 7: "objects"}
NOTICE = """Sources and licences of the pictures in this file.
Changes: each vector drawing was drawn at {side} x {side} pixels and compressed as WebP, nothing else.

"""
NAMES = """
Names and tags: emojibase-data (MIT), Copyright (c) Miles Johnson, from Unicode CLDR (Unicode-3.0).
fluent-emoji-flat: Copyright (c) Microsoft Corporation. The licence of both:

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read_member(folder: Path, package: str, member: str) -> dict | list:
    [archive] = folder.glob(f"{package}-[0-9]*.tgz")
    with tarfile.open(archive) as file:
        return json.load(file.extractfile(f"package/{member}"))


def read_objects(folder: Path) -> list[dict]:
    """Name, tags and code point of the objects with a name of one word, in CLDR's order."""
    entries = [entry for entry in read_member(folder, "emojibase-data", "en/data.json") if entry.get("group") in GROUPS]
    entries = [entry for entry in entries if entry["label"].isascii() and entry["label"].isalpha()]
    return [
        {"name": entry["label"].lower(), "tags": entry["tags"], "group": entry["group"], "code": entry["hexcode"]}
        for entry in sorted(entries, key=lambda entry: entry["order"])
    ]


def draw(pack: dict, codes: dict[str, str], entry: dict) -> Image.Image | None:
    """One object in one style, or `None` if the style has no picture of it."""
    code = entry["code"].lower()
    name = codes.get(code) or codes.get("-".join(part for part in code.split("-") if part != "fe0f"))
    if not codes:  # fxemoji comes without code points; its names have no hyphens
        name = "".join(letter for letter in entry["name"] if letter.isalnum())
    icon = pack["icons"].get(name) or pack["icons"].get(pack.get("aliases", {}).get(name, {}).get("parent"))
    if icon is None:
        return None
    width, height = (icon.get(key, pack.get(key, 16)) for key in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )
    png = cairosvg.svg2png(bytestring=svg.encode(), output_width=SIDE, output_height=SIDE)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def draw_sheet(folder: Path, style: str, objects: list[dict]) -> tuple[bytes, str]:
    """All objects in one style as a WebP sheet, and the style's line of the notice; lists the style in the objects."""
    package = f"iconify-json-{style}"
    pack, codes = read_member(folder, package, "icons.json"), read_member(folder, package, "chars.json")
    sheet = Image.new("RGBA", (SIDE * COLUMNS, SIDE * -(-len(objects) // COLUMNS)))
    for number, entry in enumerate(objects):
        if picture := draw(pack, codes, entry):
            sheet.paste(picture, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
            entry["styles"].append(style)
    data = io.BytesIO()
    sheet.save(data, "webp", quality=70, method=6, alpha_quality=80)
    about, version = read_member(folder, package, "info.json"), read_member(folder, package, "package.json")["version"]
    author, licence = about["author"], about["license"]
    return data.getvalue(), (
        f"{style}: {about['name']} by {author['name']} ({author['url']}), {licence['spdx']} ({licence['url']}), "
        f"from the npm package @iconify-json/{style} {version}\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the packages that npm packed")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--held-back", type=Path, help="zip of the held-back style, for measurements only")
    arguments = parser.parse_args()
    objects = [{**entry, "styles": []} for entry in read_objects(arguments.folder)]
    files = {arguments.output: [style for style in STYLES if style != HELD_BACK]}
    if arguments.held_back:
        files[arguments.held_back] = [HELD_BACK]
    for path, styles in files.items():
        sheets = {style: draw_sheet(arguments.folder, style, objects) for style in styles}
        notice = NOTICE.format(side=SIDE) + "".join(line for _, line in sheets.values()) + NAMES
        with zipfile.ZipFile(path, "w") as file:
            for style, (data, _) in sheets.items():
                file.writestr(zipfile.ZipInfo(f"{style}.webp"), data)
            if path == arguments.output:
                kept = [{name: entry[name] for name in ("name", "tags", "group", "styles")} for entry in objects]
                file.writestr(zipfile.ZipInfo("objects.json"), json.dumps(kept), zipfile.ZIP_DEFLATED)
            file.writestr(zipfile.ZipInfo("NOTICE.txt"), notice)
        print(f"{path}: {len(objects)} things in {', '.join(styles)}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
