BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE odyssey_queue (
	trial_id INTEGER NOT NULL, 
	sweep VARCHAR(512) NOT NULL, 
	place INTEGER NOT NULL, 
	worker VARCHAR(128), 
	failures INTEGER NOT NULL, 
	PRIMARY KEY (trial_id)
);
INSERT INTO "odyssey_queue" VALUES(3,'old/echo',2,'worker',0);
INSERT INTO "odyssey_queue" VALUES(4,'old/echo',3,'worker',0);
CREATE TABLE odyssey_workers (
	worker VARCHAR(128) NOT NULL, 
	sweep VARCHAR(512) NOT NULL, 
	host VARCHAR(256) NOT NULL, 
	boot VARCHAR(64) NOT NULL, 
	pid INTEGER NOT NULL, 
	device VARCHAR(256) NOT NULL, 
	beat INTEGER NOT NULL, 
	ended INTEGER NOT NULL, 
	idle BOOLEAN NOT NULL, 
	joined DATETIME NOT NULL, 
	seen DATETIME NOT NULL, 
	PRIMARY KEY (worker)
);
INSERT INTO "odyssey_workers" VALUES('worker','old/echo','host','boot',3025,'cpu on AMD EPYC',5,2,0,'2026-11-21 14:13:37','2026-11-21 14:13:42');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'old/echo/vanilla');
INSERT INTO "studies" VALUES(2,'old/echo/rnn');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["negative log-likelihood [nats per step]"]');
INSERT INTO "study_system_attributes" VALUES(2,2,'study:metric_names','["negative log-likelihood [nats per step]"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'variant','{"cell": "lstm"}');
INSERT INTO "study_user_attributes" VALUES(2,2,'variant','{"cell": "rnn"}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'hidden_size',4.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(2,1,'lr',3.41931937750200153763e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(3,1,'1 - momentum',4.64192896636124244236e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(4,1,'input_noise',0.75147912723972,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(5,2,'hidden_size',2.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(6,2,'lr',1.50773665532461615887e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(7,2,'1 - momentum',0.707583279127224,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(8,2,'input_noise',0.320693079353649,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(9,3,'hidden_size',3.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(10,3,'lr',7.25533593815710898221e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(11,3,'1 - momentum',4.08813623574953918793e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(12,3,'input_noise',9.6711032726250689695e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(13,4,'hidden_size',3.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(14,4,'lr',1.73104088832415396953e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(15,4,'1 - momentum',2.91905628694822637247e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(16,4,'input_noise',0.627386986382111,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'result','{"hidden_size": 4, "lr": 0.00034193193775020015, "momentum": 0.9535807103363876, "input_noise": 0.75147912723972, "seed": 2320885940519862784, "status": "finished", "valid_score": 3.3342367397901542, "test_score": 3.345574875151041, "best_epoch": 30, "epochs": 30, "last_valid_score": 3.3342367397901542, "train_seconds": 0.3044608900008825, "n_parameters": 197, "engine": "cpu", "device": "AMD EPYC", "dtype": "float64", "data_hash": "1fc8a087e4852332a10b7d0245f3cfe9e9f13cd4a088ee6a45d521d5533e7966", "git_revision": "104c49548d5af06c3784b1b67814f24454a8a6d9", "versions": {"python": "3.11.7", "odyssey": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "optuna": "5.0.0"}, "finished": "2026-11-21T14:13:40+00:00"}');
INSERT INTO "trial_user_attributes" VALUES(2,2,'result','{"hidden_size": 2, "lr": 0.0015077366553246162, "momentum": 0.29241672087277604, "input_noise": 0.320693079353649, "seed": 5494795052512574686, "status": "finished", "valid_score": 2.5246191714205994, "test_score": 2.565686061776093, "best_epoch": 25, "epochs": 30, "last_valid_score": 2.543767533556201, "train_seconds": 0.17180687299924102, "n_parameters": 31, "engine": "cpu", "device": "AMD EPYC", "dtype": "float64", "data_hash": "1fc8a087e4852332a10b7d0245f3cfe9e9f13cd4a088ee6a45d521d5533e7966", "git_revision": "104c49548d5af06c3784b1b67814f24454a8a6d9", "versions": {"python": "3.11.7", "odyssey": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "optuna": "5.0.0"}, "finished": "2026-11-21T14:13:42+00:00"}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,3.33423673979015422474e+00,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,2.52461917142059943941e+00,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-21 14:13:37.167501','2026-11-21 14:13:41.835877');
INSERT INTO "trials" VALUES(2,0,2,'COMPLETE','2026-11-21 14:13:37.167501','2026-11-21 14:13:42.598468');
INSERT INTO "trials" VALUES(3,1,1,'RUNNING','2026-11-21 14:13:41.839993',NULL);
INSERT INTO "trials" VALUES(4,1,2,'RUNNING','2026-11-21 14:13:42.599785',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX ix_odyssey_queue_worker ON odyssey_queue (worker);
CREATE INDEX ix_odyssey_queue_sweep ON odyssey_queue (sweep);
CREATE INDEX ix_odyssey_workers_sweep ON odyssey_workers (sweep);
COMMIT;
