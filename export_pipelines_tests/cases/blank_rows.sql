CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One'), (2, 'Two');
CREATE TABLE things (
    id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, word text, number int, "  spaced " text, "two	words" text, "=sum" int
);
INSERT INTO things VALUES (1, 1, 'a', 1, 'x', 'y', 1), (2, 1, NULL, NULL, NULL, NULL, NULL), (3, 1, '', 3, 'x', 'y', 2),
    (4, 1, '\.', 4, '', '', NULL), (5, 2, 'b', 5, 'x', 'y', 3);
