"""The demo: a page that draws from a bundle in the browser, served on this machine or written as static files.

    app_files   a bundle's app.json -> the files that an app ships, checked
    npm_files   the page's runtime and tokenizer: from a node_modules folder, the cache, or the npm registry
    site_files  page + runtime + bundle: every file with its URL, size and sha256
    server      serves a site and nothing else
    static_copy writes a site into a folder
Nothing here draws, and nothing of a bundle is opened but what its app.json names.
"""
