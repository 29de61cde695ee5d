"""Reports as files that CI services read: JUnit for their list of tests, Markdown for their summary page. No torch."""
