terraform {
  # 1.11: the first with write-only arguments and mocked data in tests as they are used here.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # The schema that terraform/check knows is 6.66's.
      version = "~> 6.66"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }

  # The state is the Secret tfstate-default-rds in the portal's namespace, where the operator reads the
  # outputs. The label is what allows the portal of that name to use it. For another namespace or name
  # give `terraform init` a -backend-config file (README.md).
  backend "kubernetes" {
    secret_suffix = "rds"
    namespace     = "gill-hicks"
    labels = {
      "gill-hicks.dev/allow-portal" = "hardware"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ project = "gill-hicks", root = "terraform/rds" }, var.tags)
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}
