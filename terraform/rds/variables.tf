# The first four come from terraform/eks: its output `rds`.

variable "region" {
  description = "AWS region of the database, the cluster's."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: write a region such as eu-central-1."
  }
}

variable "vpc_id" {
  description = "VPC of the database, the cluster's."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id: write an id such as vpc-0123456789abcdef0."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets of that VPC, in at least two zones."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2 && alltrue([for id in var.private_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "private_subnet_ids: at least two ids such as subnet-0123456789abcdef0; RDS wants two zones."
  }
}

variable "node_security_group_id" {
  description = "Security group of the cluster's nodes, the only one that reaches the database."
  type        = string

  validation {
    condition     = can(regex("^sg-[0-9a-f]+$", var.node_security_group_id))
    error_message = "node_security_group_id: write an id such as sg-0123456789abcdef0."
  }
}

variable "name" {
  description = "Identifier of the database instance, and the beginning of every other name here."
  type        = string
  default     = "gill-hicks"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){0,29}$", var.name))
    error_message = "name: letters a-z, digits and single hyphens, beginning with a letter."
  }
}

variable "tags" {
  description = "Tags for everything that takes tags, beside project and root."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "portal" {
  description = "The HardwarePortal that may use the database. Its namespace and name are those of this root's backend."
  type        = object({ namespace = string, name = string })
  default     = { namespace = "gill-hicks", name = "hardware" }
  nullable    = false

  validation {
    condition     = alltrue([for word in [var.portal.namespace, var.portal.name] : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", word))])
    error_message = "portal: namespace and name as Kubernetes writes them: a-z, 0-9 and -, at most 63 characters."
  }
}

variable "manage_master_user_password" {
  description = "true: RDS makes, keeps and rotates the password in Secrets Manager; no state holds it. false: terraform generates it, and this root's state holds it."
  type        = bool
  default     = true
  nullable    = false
}

variable "password_generation" {
  description = "Raise it to change a generated password. Without effect where RDS manages it."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.password_generation >= 1 && floor(var.password_generation) == var.password_generation
    error_message = "password_generation: a whole number from 1."
  }
}

variable "username" {
  description = "The master account. The operator alone uses it, to make accounts for the pods."
  type        = string
  default     = "hardware"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,15}$", var.username)) && !contains(["rdsadmin", "root", "mysql"], var.username)
    error_message = "username: at most 16 characters a-z, 0-9 and _, beginning with a letter; rdsadmin, root and mysql are taken."
  }
  validation {
    condition     = !startswith(var.username, "hw_")
    error_message = "username: names that begin with hw_ are the operator's, for the accounts it makes."
  }
}

variable "database" {
  description = "Name of the schema."
  type        = string
  default     = "hardware"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,63}$", var.database)) && !contains(["mysql", "sys", "information_schema", "performance_schema"], var.database)
    error_message = "database: at most 64 characters a-z, 0-9 and _, beginning with a letter, and none of MySQL's own schemas."
  }
}

variable "port" {
  description = "TCP port of the database."
  type        = number
  default     = 3306
  nullable    = false

  validation {
    condition     = var.port >= 1150 && var.port <= 65535
    error_message = "port: RDS takes 1150 to 65535."
  }
}

variable "instance_class" {
  description = "Size of the instance. Performance Insights needs medium or larger and is off below."
  type        = string
  default     = "db.t4g.medium"
  nullable    = false

  validation {
    condition     = can(regex("^db\\.[a-z0-9-]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class: a class such as db.t4g.medium or db.m7g.large."
  }
}

variable "storage_gib" {
  description = "Storage to begin with, and the size up to which RDS extends it by itself, in GiB."
  type        = object({ initial = number, maximum = number })
  default     = { initial = 20, maximum = 100 }
  nullable    = false

  validation {
    condition     = var.storage_gib.initial >= 20 && var.storage_gib.maximum >= var.storage_gib.initial * 1.1
    error_message = "storage_gib: initial at least 20, and maximum at least a tenth more: RDS refuses less."
  }
}

variable "multi_az" {
  description = "A standby in a second zone that takes over within a minute or two. It doubles the price of the instance."
  type        = bool
  default     = true
  nullable    = false
}

variable "backup_retention_days" {
  description = "For how many days back the database can be restored to any second."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days: 1 to 35; 0 would turn backups off."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the instance. When it is deleted all the same, a last snapshot stays."
  type        = bool
  default     = true
  nullable    = false
}

variable "log_retention_days" {
  description = "How long the error log and the slow query log are kept in CloudWatch."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: one of the periods that CloudWatch offers, such as 30, 90 or 365."
  }
}
