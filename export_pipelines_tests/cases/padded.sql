CREATE TABLE firms (id bigint PRIMARY KEY, label text);
INSERT INTO firms VALUES (1, 'One'), (2, 'Two');
CREATE DOMAIN short AS char(3);
CREATE TABLE codes (
    id int PRIMARY KEY, firm_id bigint NOT NULL REFERENCES firms, code char(4), codes char(4)[], code_domain short, free bpchar
);
INSERT INTO codes VALUES (1, 1, 'ab', '{ab,NULL}', 'x', 'y  '), (2, 1, 'é', NULL, NULL, NULL), (3, 2, 'zz', NULL, NULL, NULL);
