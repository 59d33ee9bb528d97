"""The page to look at: plain HTML and CSS, nothing fetched from elsewhere. Data in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from examples.gallery.store import Comment, Photo

# No script at all; a comment that smuggles one in would not run either. `data:` is for the icon alone.
CONTENT_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
)
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Crect width='32' height='32' rx='7' fill='%230f766e'/%3E%3Ccircle cx='22' cy='10' r='3' fill='%23fff'/%3E"
    "%3Cpath d='M4 26 13 13l6 8 3-4 6 9z' fill='%23fff'/%3E%3C/svg%3E"
)

STYLE = """
:root{color-scheme:light dark}
:root{--ink:#1d2430;--soft:#667085;--paper:#f6f5f1;--card:#fff;--line:#e4e2db;--leaf:#0f766e;--leaf2:#115e59}
@media(prefers-color-scheme:dark){:root{--ink:#e9eaee;--soft:#9aa3b2;--paper:#14171d;--card:#1d212a;--line:#2d333f;
--leaf:#2dd4bf;--leaf2:#5eead4}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:1180px;margin:0 auto;padding:0 24px}
header{display:flex;flex-wrap:wrap;gap:16px 32px;align-items:end;justify-content:space-between;padding-top:40px;
padding-bottom:24px}
h1{margin:0;font:600 40px/1.1 Georgia,"Times New Roman",serif;letter-spacing:-.02em}
header p{margin:6px 0 0;color:var(--soft)}
main{display:grid;gap:24px;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));align-items:start}
article{background:var(--card);border:1px solid var(--line);border-radius:14px;overflow:hidden;
box-shadow:0 1px 2px #0000000d,0 8px 24px #0000000a}
article>a{display:block;aspect-ratio:4/3;background:var(--line)}
article img{display:block;width:100%;height:100%;object-fit:cover;transition:transform .3s}
article>a{overflow:hidden}article>a:hover img{transform:scale(1.03)}
@media(prefers-reduced-motion:reduce){article img{transition:none}}
.text{padding:14px 16px 16px}h2{margin:0;font-size:17px}small,.none{color:var(--soft);font-size:13px}
ul{list-style:none;margin:12px 0;padding:12px 0 0;border-top:1px solid var(--line);font-size:14px}
li{margin:0 0 8px;overflow-wrap:anywhere}li b{margin-right:6px}
form{display:flex;gap:8px;flex-wrap:wrap}
input{min-width:0;font:inherit;font-size:14px;color:inherit;background:var(--paper);border:1px solid var(--line);
border-radius:8px;padding:7px 10px}::placeholder{color:var(--soft);opacity:1}
input[type=file]{flex:1 1 240px;padding:4px 10px 4px 4px;color:var(--soft)}
::file-selector-button{font:inherit;font-weight:600;color:var(--ink);background:var(--line);border:0;border-radius:6px;
padding:4px 10px;margin-right:10px;cursor:pointer}input[name=author]{width:92px}input[name=text]{flex:1}
input[name=title]{flex:1 1 140px}
button{font:inherit;font-size:14px;font-weight:600;color:var(--card);background:var(--leaf);border:0;border-radius:8px;
padding:8px 14px;cursor:pointer}button:hover{background:var(--leaf2)}
:focus-visible{outline:2px solid var(--leaf);outline-offset:2px}
b.version{display:inline-block;margin-right:8px;padding:1px 9px;border:1px solid var(--line);border-radius:99px;
font-weight:600;color:var(--leaf)}footer{padding-top:32px;padding-bottom:40px;color:var(--soft);font-size:13px}code{font-size:12px}
"""


def render_page(
    photos: Sequence[Photo], comments: Mapping[str, Sequence[Comment]], total: int, instance: str, version: str
) -> str:
    cards = "\n".join(_card(photo, comments.get(photo.id, ())) for photo in photos)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Gallery</title>
<link rel="icon" href="{ICON}">
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>
<body><header><div><h1>Gallery</h1><p>{total} photographs, the newest first</p></div>
<form method="post" action="/photos" enctype="multipart/form-data">
<input type="file" name="photo" aria-label="Photo" accept="image/jpeg,image/png,image/webp" required>
<input name="title" aria-label="Title" placeholder="Title" maxlength="120"><button>Upload</button></form></header>
<main>{cards or '<p class="none">No photographs yet. Upload the first one.</p>'}</main>
<footer><b class="version">Version {escape(version)}</b>served by <code>{escape(instance)}</code></footer>
</body></html>"""


def _card(photo: Photo, comments: Sequence[Comment]) -> str:
    title = escape(photo.title or "Untitled")
    day = datetime.fromtimestamp(photo.created_at, UTC).strftime("%-d %B %Y")
    said = "".join(f"<li><b>{escape(comment.author)}</b>{escape(comment.text)}</li>" for comment in comments)
    return f"""<article><a href="/photos/{photo.id}/raw">
<img src="/photos/{photo.id}/thumb/480" alt="{title}" loading="lazy" width="480" height="360"></a>
<div class="text"><h2>{title}</h2><small>{day} · {photo.width} &times; {photo.height} · {photo.bytes // 1024} KB</small>
<ul>{said or '<li class="none">No comments yet</li>'}</ul>
<form method="post" action="/photos/{photo.id}/comments">
<input name="author" aria-label="Your name" placeholder="Name" maxlength="60" required>
<input name="text" aria-label="Comment" placeholder="Say something" maxlength="1000" required>
<button>Send</button></form></div></article>"""
