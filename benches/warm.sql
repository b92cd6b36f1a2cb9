-- Touches all of the buffer pool, as a server in use has: else the kernel gives out its memory page by page to whoever fills
-- buffers first, which here would be the captured side.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE UNLOGGED TABLE warm (pad text);
ALTER TABLE warm ALTER pad SET STORAGE PLAIN;
INSERT INTO warm SELECT repeat('x', 8000) FROM pg_settings, generate_series(1, setting::int) WHERE name = 'shared_buffers';
DROP TABLE warm;
