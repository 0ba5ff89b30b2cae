"""From a job id to its result, its metadata and what a person sees; `fetch` is where it begins."""
