"""HTML as a browser would read it: which elements there are and what they say."""

from html.parser import HTMLParser


class Seen(HTMLParser):
    """The elements of a page.

    tags: their names. text: what stands in them. sources: the addresses of pictures. attributes: names of all others.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self.sources, self.attributes = set(), [], [], set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        self.attributes |= {name for name, _ in attrs} - {"src"}

    def handle_data(self, data):
        self.text.append(data)
