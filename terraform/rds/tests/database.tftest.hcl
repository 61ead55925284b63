# With mocked providers: nothing is read from AWS or made there.

mock_provider "aws" {
  mock_resource "aws_db_instance" {
    defaults = {
      address = "gill-hicks.abc.eu-central-1.rds.amazonaws.com"
      master_user_secret = [{
        kms_key_id    = "key"
        secret_arn    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
        secret_status = "active"
      }]
    }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "random" {
  mock_resource "random_password" {
    defaults = { result = "generated" }
  }
}

variables {
  region                 = "eu-central-1"
  vpc_id                 = "vpc-0123"
  private_subnet_ids     = ["subnet-01", "subnet-02"]
  node_security_group_id = "sg-0123"
}

run "outputs_are_what_the_operator_reads" {
  command = apply

  assert {
    condition     = output.MYSQL_HOST == "gill-hicks.abc.eu-central-1.rds.amazonaws.com" && output.MYSQL_PORT == 3306 && output.MYSQL_USER == "hardware" && output.MYSQL_DATABASE == "hardware"
    error_message = "The host is an address without a port."
  }
  assert {
    condition     = output.MYSQL_PASSWORD_SECRET_ARN == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1" && output.MYSQL_PASSWORD == null
    error_message = "RDS manages the password by default, so there is an ARN and no password."
  }
}

run "the_managed_secret_names_its_portal" {
  command = apply

  variables {
    portal = { namespace = "team-a", name = "gpus" }
  }

  assert {
    condition     = aws_secretsmanager_tag.allow_portal[0].key == "gill-hicks.dev/allow-portal" && aws_secretsmanager_tag.allow_portal[0].value == "team-a/gpus" && aws_secretsmanager_tag.allow_portal[0].secret_id == output.MYSQL_PASSWORD_SECRET_ARN
    error_message = "Without this tag neither IAM nor the operator lets the secret be read."
  }
  assert {
    condition     = aws_secretsmanager_tag.database_host[0].key == "gill-hicks.dev/database-host" && aws_secretsmanager_tag.database_host[0].value == output.MYSQL_HOST && aws_secretsmanager_tag.database_host[0].secret_id == output.MYSQL_PASSWORD_SECRET_ARN
    error_message = "Without this tag the operator sends the master account nowhere."
  }
}

run "a_generated_password_is_an_output" {
  command = apply

  variables {
    manage_master_user_password = false
  }

  assert {
    condition     = output.MYSQL_PASSWORD == "generated" && output.MYSQL_PASSWORD_SECRET_ARN == null && length(aws_secretsmanager_tag.allow_portal) + length(aws_secretsmanager_tag.database_host) == 0
    error_message = "A generated password is in the state, and no secret is."
  }
  assert {
    condition     = random_password.master[0].length <= 41 && !can(regex("[/@\" '\\\\`]", random_password.master[0].override_special))
    error_message = "RDS takes 41 characters, and neither / @ \" nor space."
  }
}

run "raising_the_generation_replaces_the_password" {
  command = plan

  variables {
    manage_master_user_password = false
    password_generation         = 2
  }

  assert {
    condition     = random_password.master[0].keepers == tomap({ generation = "2" })
    error_message = "The generation is what the password is kept for."
  }
}

run "the_database_is_private_encrypted_and_kept" {
  assert {
    condition     = aws_db_instance.main.storage_encrypted && !aws_db_instance.main.publicly_accessible && aws_db_instance.main.deletion_protection && aws_db_instance.main.backup_retention_period == 14 && !aws_db_instance.main.skip_final_snapshot
    error_message = "Encrypted, private, protected, backed up, and with a last snapshot."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.nodes.referenced_security_group_id == "sg-0123" && aws_vpc_security_group_ingress_rule.nodes.from_port == 3306 && aws_vpc_security_group_ingress_rule.nodes.to_port == 3306
    error_message = "MySQL's port, from the nodes only."
  }
}

run "no_connection_without_tls" {
  assert {
    condition     = aws_db_parameter_group.main.family == "mysql8.4" && { for each in aws_db_parameter_group.main.parameter : each.name => each.value }["require_secure_transport"] == "1"
    error_message = "require_secure_transport must be on."
  }
}

run "small_instances_go_without_performance_insights" {
  variables {
    instance_class = "db.t4g.micro"
  }

  assert {
    condition     = !aws_db_instance.main.performance_insights_enabled
    error_message = "AWS refuses Performance Insights on micro and small."
  }
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-01", "subnet-01"]
  }

  expect_failures = [var.private_subnet_ids]
}

run "no_backups_is_refused" {
  command = plan

  variables {
    backup_retention_days = 0
  }

  expect_failures = [var.backup_retention_days]
}

run "the_operators_account_names_are_refused" {
  command = plan

  variables {
    username = "hw_admin"
  }

  expect_failures = [var.username]
}
