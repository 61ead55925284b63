variable "region" {
  description = "AWS region of everything in this root, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: write a region such as eu-central-1."
  }
}

variable "name" {
  description = "Name of the cluster, and the beginning of every other name here."
  type        = string
  default     = "gill-hicks"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,29}$", var.name))
    error_message = "name: at most 30 characters a-z, 0-9 and -, beginning with a letter."
  }
}

variable "tags" {
  description = "Tags for everything that takes tags, beside project and root."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes. It can be raised one step at a time and never lowered."
  type        = string
  default     = "1.36"
  nullable    = false

  validation {
    condition     = can(regex("^1\\.(3[3-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version: gill-hicks needs 1.33 or later; write it as 1.36, without a patch number."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC. Each zone takes a sixteenth for private and a 256th for public addresses."
  type        = string
  default     = "10.42.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 18
    error_message = "vpc_cidr: an IPv4 range from /16 to /18, such as 10.42.0.0/16."
  }
}

variable "zones" {
  description = "Letters of the availability zones, in an order that stays: each keeps the addresses of its place. Not every region has every letter: `aws ec2 describe-availability-zones`."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones) && alltrue([for letter in var.zones : can(regex("^[a-z]$", letter))])
    error_message = "zones: two to six different letters, such as [\"a\", \"b\", \"c\"]. EKS and RDS both need at least two."
  }
}

variable "nat_gateway_per_zone" {
  description = "A NAT gateway in each zone. false: one for all, which is cheaper and ends everyone's way out with its zone."
  type        = bool
  default     = true
  nullable    = false
}

variable "api_allowed_cidrs" {
  description = "IPv4 ranges that reach the Kubernetes API from outside of the VPC. Empty: it has no public address."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.api_allowed_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "api_allowed_cidrs: IPv4 ranges such as 203.0.113.7/32; the whole internet is refused."
  }
}

variable "administrators" {
  description = "ARNs of IAM roles or users that administer the cluster, beside the one that creates it."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.administrators : can(regex("^arn:[^:]+:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "administrators: ARNs of roles or users, such as arn:aws:iam::123456789012:role/platform."
  }
}

variable "portals" {
  description = "The HardwarePortals of this cluster. Their hardware pods may look at EC2's offers, and the operator may read Secrets Manager secrets that name one of them."
  type        = list(object({ namespace = string, name = string }))
  default     = [{ namespace = "gill-hicks", name = "hardware" }]
  nullable    = false

  validation {
    condition = alltrue([for portal in var.portals :
      can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", portal.namespace)) && can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", portal.name))
    ])
    error_message = "portals: namespace and name as Kubernetes writes them: a-z, 0-9 and -, at most 63 characters."
  }
  validation {
    condition     = length(var.portals) > 0 && length(distinct(var.portals)) == length(var.portals)
    error_message = "portals: name at least one, and each once."
  }
}

variable "observed_regions" {
  description = "Regions whose EC2 offers the hardware pods may look at. Empty: this root's region."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "dns_zone_name" {
  description = "Name of an existing public Route53 zone that external-dns writes to. null: no external-dns."
  type        = string
  default     = null

  validation {
    condition     = var.dns_zone_name == null ? true : can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.dns_zone_name))
    error_message = "dns_zone_name: a zone such as hardware.example.com, without a dot at the end."
  }
}

variable "log_retention_days" {
  description = "How long the control plane's logs and the VPC's flow logs are kept."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: one of the periods that CloudWatch offers, such as 30, 90 or 365."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the cluster."
  type        = bool
  default     = true
  nullable    = false
}
