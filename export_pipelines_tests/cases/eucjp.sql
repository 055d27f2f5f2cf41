CREATE TABLE "会社" (id bigint PRIMARY KEY, label text);
INSERT INTO "会社" VALUES (1, '日本'), (2, 'x');
CREATE TABLE t (id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES "会社", v text, fixed char(4), doc jsonb, words text[]);
INSERT INTO t VALUES (1, 1, '語', '日', '{"日": "本"}', ARRAY['日', NULL]), (2, 2, 'x', 'y', '1', NULL);
