output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.main.name
}

output "region" {
  description = "For `aws eks update-kubeconfig --region`."
  value       = var.region
}

output "rds" {
  description = "The variables of terraform/rds that this root knows: `terraform output -json rds` writes its eks.auto.tfvars.json."
  value = {
    region                 = var.region
    vpc_id                 = aws_vpc.main.id
    private_subnet_ids     = [for subnet in aws_subnet.private : subnet.id]
    node_security_group_id = aws_eks_cluster.main.vpc_config[0].cluster_security_group_id
  }
}
