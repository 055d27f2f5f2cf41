CREATE TABLE shops (id char(4) PRIMARY KEY, label text);
INSERT INTO shops VALUES ('a', 'One'), ('b', 'Two');
CREATE TABLE sales (id int PRIMARY KEY, shop char(4) NOT NULL REFERENCES shops);
INSERT INTO sales VALUES (1, 'a'), (2, 'b');
